"""Table 3 with our errors beside the paper's: as a table, a picture, JSON and CSV."""

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from deconvnet.experiments.table3_ablation.variants import Errors, Size, Variant

#: Views of each training photo, and of each validation photo. The paper says neither. The first and the eighth row of its
#: Table 3 are those of Table 2, whose validation errors fit ten views; for training photos one is enough.
TRAIN_VIEWS, VAL_VIEWS = 1, 10

FORMAT = 1


@dataclass(frozen=True)
class Row:
    """One variant with what came out."""

    variant: Variant
    size: Size
    """As it is trained here."""
    ours: Errors | None
    """None while it has not been trained and judged."""

    def as_json(self) -> dict[str, Any]:
        return {
            "label": self.variant.label,
            "change": self.variant.change,
            "network": self.variant.network,
            "options": dict(self.variant.options),
            **asdict(self.size),
            "ours": self.ours and asdict(self.ours),
            "paper": asdict(self.variant.paper),
        }


@dataclass(frozen=True)
class Ablation:
    """Table 3 with our errors beside the paper's."""

    data: str
    """The folder of photos."""
    classes: int
    photos: Mapping[str, tuple[int, str]]
    """Of `train` and `val`: how many, and the digest that tells them from others."""
    recipe: Mapping[str, Any]
    seed: int
    rows: tuple[Row, ...]

    @property
    def key(self) -> dict[str, Any]:
        """What all rows have in common."""
        photos = {name: list(facts) for name, facts in self.photos.items()}
        return {"photos": photos, "recipe": dict(self.recipe), "seed": self.seed}

    @property
    def measured(self) -> str:
        """What the errors are of, in a sentence."""
        return (
            f"Ours: {self.data}, {self.classes:,} classes, {self.photos['train'][0]:,} photos to train on, "
            f"{self.photos['val'][0]:,} to judge by (ten views each; training photos: the central one), "
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
        """One line for each variant; errors are shares, and empty where there are none yet."""
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
        """Errors in per cent, ours and the paper's."""
        table = Table("", "params M", "train top-1", "paper", "val top-1", "paper", "val top-5", "paper", box=None)
        for column in table.columns[1:]:
            column.justify = "right"
        for row in self.rows:
            ours = [f"{share:.1%}" for share in astuple(row.ours)] if row.ours else ["–"] * 3
            theirs = [f"{share:.1%}" for share in astuple(row.variant.paper)]
            cells = [cell for pair in zip(ours, theirs, strict=True) for cell in pair]
            table.add_row(row.variant.label, f"{row.size.parameters / 1e6:.1f}", *cells)
        return table

    def figure(self) -> Figure:
        """A panel for each of the three errors: a bar of ours above one of the paper's for each variant."""
        figure = Figure(figsize=(13, 6.6), dpi=110, facecolor="white", layout="constrained")
        axes = figure.subplots(1, 3, sharey=True)
        places = np.arange(len(self.rows))
        for one, error, title in zip(
            axes, fields(Errors), ("training, top-1", "validation, top-1", "validation, top-5"), strict=True
        ):
            ours = [100 * getattr(row.ours, error.name) if row.ours else 0 for row in self.rows]
            labels = [f"{value:.1f}" if row.ours else "–" for value, row in zip(ours, self.rows, strict=True)]
            theirs = [100 * getattr(row.variant.paper, error.name) for row in self.rows]
            drawn = one.barh(places - 0.2, ours, 0.38, color="#4477aa", label="ours")
            one.bar_label(drawn, labels, padding=3, fontsize=9)
            paper = one.barh(places + 0.2, theirs, 0.38, color="0.75", label="the paper's, ImageNet 2012")
            one.bar_label(paper, [f"{value:.1f}" for value in theirs], padding=3, fontsize=9, color="0.4")
            one.set_xlim(0, 1.15 * max(*ours, *theirs))
            one.set_title(f"error in %: {title}", fontsize=11, loc="left")
            one.spines[["top", "right", "left"]].set_visible(False)
            one.tick_params(left=False)
        axes[0].set_yticks(places, [row.variant.label for row in self.rows])
        axes[0].invert_yaxis()
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False)
        figure.supxlabel(self.measured, fontsize=9, color="0.35", parse_math=False, wrap=True)
        return figure
