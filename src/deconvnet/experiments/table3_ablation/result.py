"""The result of Table 3: our errors and the paper's for each variant, as a table, JSON and CSV."""

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

from deconvnet.experiments.table3_ablation.plot import ablation_figure
from deconvnet.experiments.table3_ablation.variants import Errors, NetworkSize, Variant

#: Views of each training image, and of each validation image. The paper states neither. The first and the eighth row of its
#: Table 3 are also in Table 2, whose validation errors fit ten views; for training images one is enough.
TRAIN_VIEWS, VAL_VIEWS = 1, 10

FORMAT = 1


@dataclass(frozen=True)
class AblationRow:
    """One variant with its size and errors."""

    variant: Variant
    size: NetworkSize
    """With the options and the number of classes that it is trained with here."""
    ours: Errors | None
    """None until it is trained and evaluated."""

    def as_json(self) -> dict[str, Any]:
        variant = asdict(self.variant)
        paper = variant.pop("paper")
        return {**variant, **asdict(self.size), "ours": self.ours and asdict(self.ours), "paper": paper}


@dataclass(frozen=True)
class Ablation:
    """Table 3 with our errors next to the paper's."""

    data: str
    """The folder with `train` and `val`."""
    classes: int
    image_sets: Mapping[str, tuple[int, str]]
    """Number of images and digest of `train` and of `val`."""
    recipe: Mapping[str, Any]
    """Entries of the recipe."""
    seed: int
    rows: tuple[AblationRow, ...]

    @property
    def key(self) -> dict[str, Any]:
        """What all rows have in common, and a resumed ablation must have too."""
        image_sets = {name: [count, digest] for name, (count, digest) in self.image_sets.items()}
        return {"photos": image_sets, "recipe": dict(self.recipe), "seed": self.seed}

    @property
    def description(self) -> str:
        """The data and the training that the errors are measured with, in a sentence."""
        return (
            f"Ours: {self.data}, {self.classes:,} classes, {self.image_sets['train'][0]:,} photos to train on, "
            f"{self.image_sets['val'][0]:,} to judge by (ten views each; training photos: the central one), "
            f"{self.recipe['epochs']} epochs, seed {self.seed}. The paper's: ImageNet 2012, 1,000 classes."
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "data": self.data,
            "classes": self.classes,
            **self.key,
            "views": {"train": TRAIN_VIEWS, "val": VAL_VIEWS},
            "rows": [row.as_json() for row in self.rows],
        }

    def as_csv(self) -> str:
        """One line for each variant; error rates from 0 to 1, empty where they are not measured yet."""
        names = [field.name for field in fields(Errors)]
        text = io.StringIO(newline="")
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["label", "change", "parameters", "multiply_adds", *names, *(f"paper_{name}" for name in names)])
        for row in self.rows:
            ours = astuple(row.ours) if row.ours else [""] * len(names)
            sizes = (row.size.parameters, row.size.multiply_adds)
            table.writerow([row.variant.label, row.variant.change, *sizes, *ours, *astuple(row.variant.paper)])
        return text.getvalue()

    def table(self) -> Table:
        """Our errors and the paper's in per cent, for the terminal."""
        table = Table("", "params M", "train top-1", "paper", "val top-1", "paper", "val top-5", "paper", box=None)
        for column in table.columns[1:]:
            column.justify = "right"
        for row in self.rows:
            ours = [f"{rate:.1%}" for rate in astuple(row.ours)] if row.ours else ["–"] * 3
            paper = [f"{rate:.1%}" for rate in astuple(row.variant.paper)]
            cells = [cell for pair in zip(ours, paper, strict=True) for cell in pair]
            table.add_row(row.variant.label, f"{row.size.parameters / 1e6:.1f}", *cells)
        return table

    def figure(self) -> Figure:
        """A panel for each of the three errors, with a bar of ours above one of the paper's for each variant."""
        variants, ours = [row.variant for row in self.rows], [row.ours for row in self.rows]
        return ablation_figure(variants, ours, self.description)
