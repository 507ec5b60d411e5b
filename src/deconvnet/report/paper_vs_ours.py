"""Tables of the paper's numbers next to ours: one or more for each section, from the JSON that its commands wrote."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from deconvnet.experiments.fig5_invariance import TRANSFORMATIONS, relative_distances
from deconvnet.experiments.table1_correspondence.result import PAPER_TABLE_1
from deconvnet.experiments.table2_errors.paper_table import TABLE_2
from deconvnet.experiments.table3_ablation.variants import VARIANTS
from deconvnet.report.paper_claims import FIG_2_PATCH_WIDTHS, FIG_3_LAYER_SIZES, FIG_4_CONVERGENCE, FIG_7_PROBABILITY_RANGES

Results = Mapping[str, Any]
"""By the command's name in its section, the JSON that it wrote."""

LayerSizes = Mapping[str, Mapping[str, list[int]]]
"""By network and layer: units, rows, columns; for a fully connected layer only units."""


@dataclass(frozen=True)
class Table:
    """Cells as text. The page highlights what is the paper's: columns with "paper" in their head, and the first rows."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    paper_row_count: int = 0
    """How many of the first rows are the paper's."""

    @property
    def is_paper_column(self) -> list[bool]:
        """For each column, whether it holds the paper's numbers."""
        return ["paper" in name for name in self.head]


def comparison_tables(section_id: str, results: Results, layer_sizes: LayerSizes | None = None) -> list[Table]:
    """The tables of a section, from the results of those of its commands that have finished.

    `layer_sizes` are those of the report's networks, for Fig. 3.
    """
    if section_id == "fig-3":
        return [_fig_3(layer_sizes)] if layer_sizes else []
    build = _TABLE_BUILDERS.get(section_id)
    return [table for table in build(results) if table.rows] if build and results else []


def result_findings(result: Any) -> list[str]:
    """The sentences under "findings" in a command's result."""
    if not isinstance(result, dict):
        return []
    return [finding for finding in result.get("findings", ()) if isinstance(finding, str)]


def network_names(result: Any) -> list[str]:
    """The full names of the networks that a command's result belongs to."""
    if not isinstance(result, dict):
        return []
    networks = [result["network"]] if "network" in result else result.get("networks", [])
    return [network if isinstance(network, str) else network.get("full_name") or network["network"] for network in networks]


def _fig_2(results: Results) -> list[Table]:
    patch_widths = [{layer["name"]: layer["picture"]["width"] for layer in atlas["layers"]} for atlas in results.values()]
    layers = dict.fromkeys(layer for widths in patch_widths for layer in widths)
    rows = [(layer, *(str(widths.get(layer, "–")) for widths in (FIG_2_PATCH_WIDTHS, *patch_widths))) for layer in layers]
    note = "Pixels across a patch, which are those that an activation sees. The paper's are ZFNet's."
    return [Table(("layer", "paper", *_short_names(results).values()), tuple(rows), note)]


def _training(results: Results) -> list[Table]:
    """Each trained network's row of the ablation."""
    rows = []
    for label, ablation in results.items():
        row = next(row for row in ablation["rows"] if row["label"] == label)
        errors = ["–"] * 3
        if row["ours"]:
            errors = [f"{100 * row['ours'][name]:.1f}" for name in ("train_top1", "val_top1", "val_top5")]
        rows.append((label, f"{ablation['recipe']['epochs']}", str(ablation["photos"]["train"][0]), *errors))
    head = ("network", "epochs", "photos", "error in %: train top-1", "val top-1", "val top-5")
    note = "The paper's 70 epochs are of 1.3 million photos; its errors are in Table 3. Ten views for val."
    return [Table(head, tuple(rows), note)]


def _fig_3(layer_sizes: LayerSizes) -> Table:
    layers = dict.fromkeys([*FIG_3_LAYER_SIZES, *(layer for sizes in layer_sizes.values() for layer in sizes)])
    rows = [(layer, *(_size(sizes.get(layer)) for sizes in (FIG_3_LAYER_SIZES, *layer_sizes.values()))) for layer in layers]
    note = "Feature maps × rows × columns, before pooling. Of the networks here, as they are shown."
    return Table(("layer", "paper: ZFNet", *layer_sizes), tuple(rows), note)


def _size(size: Sequence[int] | None) -> str:
    return "–" if size is None else " × ".join(f"{number:,}" for number in size)


def _fig_4(results: Results) -> list[Table]:
    head = ["layer", "settled in the paper"]
    for run, evolution in results.items():
        epochs = ", ".join(map(str, evolution["epochs"][:-1]))
        head += [f"settled in {run}", f"likeness to the end at epochs {epochs}"]
    layers = dict.fromkeys(layer for evolution in results.values() for layer in evolution["layers"])
    rows = []
    for layer in layers:
        row = [layer, FIG_4_CONVERGENCE.get(layer, "–")]
        for evolution in results.values():
            epoch = evolution["settled"].get(layer)
            similarities = evolution["layers"][layer]["similarities"][:-1]
            row.append(f"epoch {epoch}" if epoch else "not before the end")
            row.append(", ".join("–" if value is None else f"{value:.2f}" for value in similarities))
        rows.append(tuple(row))
    note = "Settled: from when on the median correlation of units' feature maps with those of the end is 0.9 or more."
    return [Table(tuple(head), tuple(rows), note)]


def _fig_5(results: Results) -> list[Table]:
    rows = []
    for transformation in TRANSFORMATIONS:
        for name, invariance in results.items():
            curves = invariance["curves"].get(transformation.name)
            if curves is None:
                continue
            cells = []
            for layer in ("first", "last"):
                fractions = relative_distances(transformation, torch.tensor(curves[layer], dtype=torch.float64))
                cells.append(f"{fractions[0]:.0%}" if fractions else "nothing changes")
            if curves["probability"] is None:
                cells += ["–", "–"]
            else:
                mean = torch.tensor(curves["probability"], dtype=torch.float64).mean(dim=0)
                untransformed = mean[curves["values"].index(transformation.identity)]
                cells += [f"{untransformed:.0%}", f"{mean.min():.0%}"]
            rows.append((transformation.name, _short_names(results)[name], *cells))
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
    names = network_names(comparison)
    rows = tuple(
        (finding["paper"], finding["here"], _networks_with_finding(finding["has"], names))
        for finding in comparison["findings"]
    )
    return [Table(("the paper says", "measured here", "which network has it"), rows)]


def _networks_with_finding(has_finding: list[bool] | None, names: list[str]) -> str:
    if has_finding is None:
        return "no difference"
    return " and ".join(name.partition(" (")[0] for name, has in zip(names, has_finding, strict=True) if has) or "neither"


def _fig_7(results: Results) -> list[Table]:
    rows = [(name, "the paper's", "–", highest, lowest) for name, (lowest, highest) in FIG_7_PROBABILITY_RANGES.items()]
    for name, occlusion in results.items():
        for image in occlusion["photos"]:
            unoccluded = image["whole_activation"]
            activation = f"{min(map(min, image['activation'])) / unoccluded:.0%}" if unoccluded else "–"
            probability, lowest = "–", "–"
            if image["probability"] is not None:
                probability, lowest = f"{image['whole_probability']:.2f}", f"{min(map(min, image['probability'])):.2f}"
            label = ": ".join(filter(None, [image["path"], image["class"]]))
            source = " (its own guess)" if image["class_by"] == "prediction" else ""
            rows.append((f"{label}{source}", _short_names(results)[name], activation, probability, lowest))
    head = ("photo", "network", "activation kept, at worst", "probability of the class", "at worst")
    note = "Of the paper's photos, about the ends of the colour bars in Fig. 7; their classes are the true ones."
    return [Table(head, tuple(rows), note, len(FIG_7_PROBABILITY_RANGES))]


def _table_1(results: Results) -> list[Table]:
    head, columns = ["masked", "paper, layer 5", "paper, layer 7"], []
    for name, correspondence in results.items():
        for layer, scores in correspondence["scores"].items():
            head.append(f"{_short_names(results)[name]}, {layer}")
            # A landmarks file may have "left_eye" for what the paper calls "left eye".
            scores = {landmark.replace("_", " "): score for landmark, score in scores.items()}
            columns.append({**scores, "random": correspondence["random"][layer]})
    landmarks = dict.fromkeys(name for column in (PAPER_TABLE_1, *columns) for name in column if name != "random")
    rows = tuple(
        (
            name,
            *(_delta(*value) for value in PAPER_TABLE_1.get(name, ((), ()))),
            *(_delta(column[name]["mean"], column[name]["deviation"]) if name in column else "–" for column in columns),
        )
        for name in (*landmarks, "random")
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
    images = f"{data['photos']:,} photos of {data['classes']:,} classes"
    evaluated = [*evaluation["networks"], *filter(None, [evaluation["ensemble"]])]
    class_count = evaluation["networks"][0]["classes"]  # the ensemble has as many as each of its networks
    rows += [
        (
            network["network"],
            images,
            _error(network["top1"]),
            _error(network["top5"]) if network.get("classes", class_count) > 5 else "–",
        )
        for network in evaluated
    ]
    note = (
        "Validation errors in per cent, in brackets 95 % intervals. Those on other photos than ImageNet 2012's do not "
        "compare with the paper's. * trained on ImageNet 2011 and 2012."
    )
    return [Table(("network", "judged by", "top-1", "top-5"), tuple(rows), note, len(rows) - len(evaluated))]


def _percent(error: float | None) -> str:
    return "–" if error is None else f"{error:.1f}"


def _error(rate: dict[str, Any]) -> str:
    """An error and its confidence interval, in per cent."""
    low, high = rate["interval"]
    return f"{100 * rate['error']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _table_3(results: Results) -> list[Table]:
    (result,) = results.values()
    if "rows" in result:
        sizes = {row["label"]: row for row in result["rows"]}
        ours = {row["label"]: row["ours"] for row in result["rows"]}
    else:  # of `ablate --list`, which trains nothing
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


def _short_names(results: Results) -> dict[str, str]:
    """By command, its network's name: without the weights if the names still differ then."""
    full_names = {name: network_names(result)[0] for name, result in results.items()}
    short_names = {name: full_name.partition(" (")[0] for name, full_name in full_names.items()}
    if len(set(short_names.values())) == len(short_names):
        return short_names
    if len(set(full_names.values())) == len(full_names):
        return full_names
    return {name: f"{full_name} [{name}]" for name, full_name in full_names.items()}


_TABLE_BUILDERS: dict[str, Callable[[Results], list[Table]]] = {
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
