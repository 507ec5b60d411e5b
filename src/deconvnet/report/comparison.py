"""The paper's numbers beside ours: a table or more for each part, from what its commands wrote."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from deconvnet.experiments.fig5_invariance.result import reached
from deconvnet.experiments.fig5_invariance.transforms import TRANSFORMATIONS
from deconvnet.experiments.table1_correspondence.result import PAPER as TABLE_1
from deconvnet.experiments.table2_errors.paper_table import TABLE_2
from deconvnet.experiments.table3_ablation.variants import VARIANTS
from deconvnet.report.paper_claims import (
    FIG_2_PATCHES,
    FIG_3_LAYERS,
    FIG_4_SETTLED,
    FIG_7_BARS,
)

Results = Mapping[str, Any]
"""By step, what its command wrote as JSON."""

Layers = Mapping[str, Mapping[str, list[int]]]
"""By network and layer: units, rows, columns; of a fully connected layer units."""


@dataclass(frozen=True)
class Table:
    """Rows of cells; the columns that hold the paper's numbers are told apart on the page."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    paper_rows: int = 0
    """How many of the first rows are the paper's."""

    @property
    def papers(self) -> list[bool]:
        """Of each column, whether it is the paper's."""
        return ["paper" in name for name in self.head]


def tables(part: str, results: Results, layers: Layers | None = None) -> list[Table]:
    """The tables of a part, as far as its commands have finished; `layers` are those of the networks."""
    if part == "fig-3":
        return [_fig_3(layers)] if layers else []
    make = _MAKERS.get(part)
    return [table for table in make(results) if table.rows] if make and results else []


def findings(result: Any) -> list[str]:
    """What a command says of what it found, in sentences."""
    return [one for one in result.get("findings", ()) if isinstance(one, str)] if isinstance(result, dict) else []


def full_names(result: Any) -> list[str]:
    """The networks that a command's result is of."""
    if not isinstance(result, dict):
        return []
    named = [result["network"]] if "network" in result else result.get("networks", [])
    return [one if isinstance(one, str) else one.get("full_name") or one["network"] for one in named]


def _fig_2(results: Results) -> list[Table]:
    layers = [{layer["name"]: layer["picture"]["width"] for layer in atlas["layers"]} for atlas in results.values()]
    names = dict.fromkeys(name for found in layers for name in found)
    rows = [(name, *(str(of.get(name, "–")) for of in (FIG_2_PATCHES, *layers))) for name in names]
    note = "Pixels across a patch, which are those that an activation sees. The paper's are ZFNet's."
    return [Table(("layer", "paper", *_names(results).values()), tuple(rows), note)]


def _training(results: Results) -> list[Table]:
    """Of each network that was trained, its row of the ablation."""
    rows = []
    for name, ablation in results.items():
        row = next(row for row in ablation["rows"] if row["label"] == name)
        errors = (
            [f"{100 * row['ours'][kind]:.1f}" for kind in ("train_top1", "val_top1", "val_top5")]
            if row["ours"]
            else ["–"] * 3
        )
        rows.append((name, f"{ablation['recipe']['epochs']}", str(ablation["photos"]["train"][0]), *errors))
    head = ("network", "epochs", "photos", "error in %: train top-1", "val top-1", "val top-5")
    return [
        Table(
            head,
            tuple(rows),
            "The paper's 70 epochs are of 1.3 million photos; its errors are in Table 3. Ten views for val.",
        )
    ]


def _fig_3(layers: Layers) -> Table:
    names = dict.fromkeys([*FIG_3_LAYERS, *(name for found in layers.values() for name in found)])
    rows = [(name, _size(FIG_3_LAYERS.get(name)), *(_size(found.get(name)) for found in layers.values())) for name in names]
    note = "Feature maps × rows × columns, before pooling. Of the networks here, as they are shown."
    return Table(("layer", "paper: ZFNet", *layers), tuple(rows), note)


def _size(size: Sequence[int] | None) -> str:
    return "–" if size is None else " × ".join(f"{number:,}" for number in size)


def _fig_4(results: Results) -> list[Table]:
    head = ["layer", "settled in the paper"]
    for run, evolution in results.items():
        epochs = ", ".join(map(str, evolution["epochs"][:-1]))
        head += [f"settled in {run}", f"likeness to the end at epochs {epochs}"]
    names = dict.fromkeys(name for evolution in results.values() for name in evolution["layers"])
    rows = []
    for name in names:
        row = [name, FIG_4_SETTLED.get(name, "–")]
        for evolution in results.values():
            epoch = evolution["settled"].get(name)
            alike = evolution["layers"][name]["similarities"][:-1]
            row.append(f"epoch {epoch}" if epoch else "not before the end")
            row.append(", ".join("–" if value is None else f"{value:.2f}" for value in alike))
        rows.append(tuple(row))
    note = "Settled: from when on the median correlation of units' feature maps with those of the end is 0.9 or more."
    return [Table(tuple(head), tuple(rows), note)]


def _fig_5(results: Results) -> list[Table]:
    rows = []
    for transformation in TRANSFORMATIONS:
        for step, invariance in results.items():
            curves = invariance["curves"].get(transformation.name)
            if curves is None:
                continue
            found = []
            for layer in ("first", "last"):
                shares = reached(transformation, torch.tensor(curves[layer], dtype=torch.float64))
                found.append(f"{shares[0]:.0%}" if shares else "nothing changes")
            if curves["probability"] is None:
                found += ["–", "–"]
            else:
                mean = torch.tensor(curves["probability"], dtype=torch.float64).mean(dim=0)
                unmoved = mean[curves["values"].index(transformation.identity)]
                found += [f"{unmoved:.0%}", f"{mean.min():.0%}"]
            rows.append((transformation.name, _names(results)[step], *found))
    head = (
        *("transformation", "network"),
        *("smallest step's share of the largest distance, first layer", "the same, last layer"),
        *("probability of the class, untransformed", "at worst"),
    )
    note = (
        "Of means over the photos. The paper prints curves, and does not describe its distance. The class is the network's "
        "own guess, the paper's the true one."
    )
    return [Table(head, tuple(rows), note)]


def _fig_6(results: Results) -> list[Table]:
    (comparison,) = results.values()
    names = full_names(comparison)
    rows = tuple((one["paper"], one["here"], _who(one["has"], names)) for one in comparison["findings"])
    return [Table(("the paper says", "measured here", "which network has it"), rows)]


def _who(has: list[bool] | None, names: list[str]) -> str:
    if has is None:
        return "no difference"
    return " and ".join(name.partition(" (")[0] for name, one in zip(names, has, strict=True) if one) or "neither"


def _fig_7(results: Results) -> list[Table]:
    rows = [(name, "the paper's", "–", most, least) for name, (least, most) in FIG_7_BARS.items()]
    for step, occlusion in results.items():
        for photo in occlusion["photos"]:
            whole = photo["whole_activation"]
            kept = f"{min(map(min, photo['activation'])) / whole:.0%}" if whole else "–"
            likely, least = "–", "–"
            if photo["probability"] is not None:
                likely, least = f"{photo['whole_probability']:.2f}", f"{min(map(min, photo['probability'])):.2f}"
            name = ": ".join(filter(None, [photo["path"], photo["class"]]))
            guess = " (its own guess)" if photo["class_by"] == "prediction" else ""
            rows.append((f"{name}{guess}", _names(results)[step], kept, likely, least))
    head = ("photo", "network", "activation kept, at worst", "probability of the class", "at worst")
    return [
        Table(
            head,
            tuple(rows),
            "Of the paper's photos, about the ends of the colour bars in Fig. 7; their classes are the true ones.",
            len(FIG_7_BARS),
        )
    ]


def _table_1(results: Results) -> list[Table]:
    head, found = ["masked", "paper, layer 5", "paper, layer 7"], []
    for step, correspondence in results.items():
        for layer, scores in correspondence["scores"].items():
            head.append(f"{_names(results)[step]}, {layer}")
            scores = {part.replace("_", " "): score for part, score in scores.items()}  # as the paper calls them
            found.append({**scores, "random": correspondence["random"][layer]})
    parts = dict.fromkeys(name for one in (TABLE_1, *found) for name in one if name != "random")
    rows = tuple(
        (
            name,
            *(_delta(*value) for value in TABLE_1.get(name, ((), ()))),
            *(_delta(one[name]["mean"], one[name]["deviation"]) if name in one else "–" for one in found),
        )
        for name in (*parts, "random")
    )
    note = "Δ ± standard deviation over pairs of photos; lower is more consistent. The paper's are of five dogs."
    return [Table(tuple(head), rows, note)]


def _delta(mean: float | None = None, deviation: float | None = None) -> str:
    if mean is None:
        return "–"
    return f"{mean:.3f}" + (f" ± {deviation:.3f}" if deviation is not None else "")


def _table_2(results: Results) -> list[Table]:
    (evaluation,) = results.values()
    rows = [(row.model, "ImageNet 2012", _percent(row.val_top1), _percent(row.val_top5)) for row in TABLE_2 if row.val_top1]
    data = evaluation["data"]
    on = f"{data['photos']:,} photos of {data['classes']:,} classes"
    judged = [*evaluation["networks"], *filter(None, [evaluation["ensemble"]])]
    tell = evaluation["networks"][0]["classes"]  # of an average, as many as of each of its networks
    rows += [
        (one["network"], on, _error(one["top1"]), _error(one["top5"]) if one.get("classes", tell) > 5 else "–")
        for one in judged
    ]
    note = (
        "Validation errors in per cent, in brackets 95 % intervals. Those on other photos than ImageNet 2012's do not "
        "compare with the paper's. * trained on ImageNet 2011 and 2012."
    )
    return [Table(("network", "judged by", "top-1", "top-5"), tuple(rows), note, len(rows) - len(judged))]


def _percent(error: float | None) -> str:
    return "–" if error is None else f"{error:.1f}"


def _error(found: dict[str, Any]) -> str:
    low, high = found["interval"]
    return f"{100 * found['error']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _table_3(results: Results) -> list[Table]:
    (result,) = results.values()
    if "rows" in result:
        sizes, ours = {row["label"]: row for row in result["rows"]}, {row["label"]: row["ours"] for row in result["rows"]}
    else:
        sizes, ours = result, {}
    rows = []
    for variant in VARIANTS:
        size, errors = sizes[variant.label], ours.get(variant.label)
        row = [f"{variant.network}: {variant.change}", f"{size['parameters'] / 1e6:.1f}"]
        for name in ("train_top1", "val_top1", "val_top5"):
            row += [f"{100 * getattr(variant.paper, name):.1f}", f"{100 * errors[name]:.1f}" if errors else "–"]
        rows.append(tuple(row))
    head = ("network", "parameters, M", "paper: train top-1", "ours", "paper: val top-1", "ours", "paper: val top-5", "ours")
    return [Table(head, tuple(rows), "Errors in per cent. The paper's are of ImageNet 2012.")]


def _names(results: Results) -> dict[str, str]:
    """By step, its network's name: without its weights, where that tells them apart."""
    full = {step: full_names(result)[0] for step, result in results.items()}
    short = {step: name.partition(" (")[0] for step, name in full.items()}
    if len(set(short.values())) == len(short):
        return short
    return full if len(set(full.values())) == len(full) else {step: f"{name} [{step}]" for step, name in full.items()}


_MAKERS: dict[str, Callable[[Results], list[Table]]] = {
    "training": _training,
    "fig-2": _fig_2,
    "fig-4": _fig_4,
    "fig-5": _fig_5,
    "fig-6": _fig_6,
    "fig-7": _fig_7,
    "table-1": _table_1,
    "table-2": _table_2,
    "table-3": _table_3,
}
