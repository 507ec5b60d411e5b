"""One photo taken apart: what the network says it is, and the units of each layer that it drives most."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from deconvnet.models import Network
from deconvnet.projection import display_scale, project_batch, to_pixels
from deconvnet.text import printable
from deconvnet.tracing import Box


@dataclass(frozen=True)
class UnitLook:
    """One unit's answer to the photo."""

    unit: int
    value: float
    row: int
    column: int
    box: Box
    """Its receptive field, moved inside the view."""
    feature_map: np.ndarray
    """(rows, columns), all its activations."""
    projection: Tensor
    """(3, crop, crop), of its strongest activation."""


@dataclass(frozen=True)
class Look:
    """What one network makes of one photo."""

    network: str
    photo: str
    view: np.ndarray
    """(crop, crop, 3) uint8, what the network was shown."""
    classes: list[tuple[str, float]] | None
    """The most probable classes, or None for a network that does not classify."""
    layers: dict[str, list[UnitLook]]
    """Each layer's most driven units, strongest first."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the pictures."""
        return {
            "network": self.network,
            "photo": self.photo,
            "classes": self.classes and [{"class": name, "probability": p} for name, p in self.classes],
            "layers": {
                name: [
                    {"unit": u.unit, "value": u.value, "row": u.row, "column": u.column, "box": list(u.box)} for u in units
                ]
                for name, units in self.layers.items()
            },
        }

    def figure(self) -> Figure:
        """The photo with its classes, then a row per layer: feature map, projection and patch of each unit."""
        across = max(1, *map(len, self.layers.values()))
        header = 2.2 if self.classes is None else 3.2  # in inches, as all numbers here
        margin = 0.3 + 0.125 * max(map(len, self.layers))  # for their names
        width, height = margin + 0.15 + 2.85 * across, header + 0.4 + 1.28 * len(self.layers)
        figure = Figure(figsize=(width, height), dpi=110, facecolor="white")
        self._draw_header(figure, width, height, header)
        grid = figure.add_gridspec(
            len(self.layers),
            across,
            left=margin / width,
            right=0.995,
            bottom=0.01,
            top=1 - (header + 0.25) / height,
            wspace=0.06,
            hspace=0.28,
        )
        for row, (name, units) in enumerate(self.layers.items()):
            for column, unit in enumerate(units):
                cells = grid[row, column].subgridspec(1, 3, wspace=0.03)
                axes = [figure.add_subplot(cells[0, part]) for part in range(3)]
                self._draw_unit(axes, unit)
                if column == 0:
                    axes[0].set_ylabel(name, fontsize=13, fontweight="bold", rotation=0, ha="right", va="center", labelpad=8)
        return figure

    def _draw_header(self, figure: Figure, width: float, height: float, header: float) -> None:
        side = header - 0.3
        photo = figure.add_axes((0.3 / width, 1 - header / height, side / width, side / height))
        photo.imshow(self.view)
        photo.axis("off")

        def write(text: str, top: float, **style: Any) -> None:
            figure.text((side + 0.7) / width, 1 - top / height, text, parse_math=False, **style)

        write(printable(self.photo), 0.45, fontsize=15, fontweight="bold")
        write(self.network, 0.75, fontsize=11, color="0.35")
        explanation = (
            "Each layer's most driven units: feature map, projection of its strongest activation\ndown to pixels, "
            "and the patch that it comes from."
        )
        write(explanation, header - 0.1, fontsize=11, color="0.35")
        if self.classes is None:
            write(
                "These weights have no classifier: they are fine for looking, but cannot say what this is.", 1.2, fontsize=12
            )
            return
        bars = figure.add_axes(((side + 3.3) / width, 1 - 2.8 / height, 4.0 / width, 1.85 / height))
        names, probabilities = zip(*reversed(self.classes), strict=True)
        drawn = bars.barh([name.replace("$", r"\$") for name in names], probabilities, color="#4477aa")
        bars.bar_label(drawn, [f"{p:.1%}" for p in probabilities], padding=4)
        bars.set_xlim(0, 1.15)
        bars.spines[:].set_visible(False)
        bars.tick_params(length=0, labelbottom=False, labelsize=11)

    def _draw_unit(self, axes: list[Axes], unit: UnitLook) -> None:
        left, top, right, bottom = unit.box
        cut = unit.projection[:, top:bottom, left:right]
        if unit.feature_map.size > 1:
            axes[0].imshow(unit.feature_map, cmap="magma", vmin=0)
        else:  # a neuron of a fully connected layer
            axes[0].text(0.5, 0.5, "one number,\nno map", ha="center", va="center", fontsize=8, color="0.6")
        axes[1].imshow(to_pixels(cut, display_scale(cut)))
        axes[2].imshow(self.view[top:bottom, left:right])
        axes[0].set_title(f"unit {unit.unit} · {unit.value:.4g}", fontsize=9, loc="left", pad=2)
        for one in axes:
            one.set_xticks([])
            one.set_yticks([])
            one.spines[:].set_visible(False)


def look(network: Network, photo: Image.Image, name: str = "", units: int = 6) -> Look:
    """Take one photo apart: its five most probable classes and, in each layer, the `units` that it drives most.

    A unit is judged by its strongest activation; units that are not active at all are left out.
    """
    x = network.preprocess(photo)[None]
    maps: dict[str, Tensor] = {}
    with torch.no_grad():
        network.capture(x, network.layers, lambda layer, output: maps.update({layer: output[0].clone()}))
    classes = None
    if network.classifies:
        probabilities = network.probabilities(x)[0]
        best = probabilities.topk(min(5, len(probabilities)))
        titles = [_class_name(network, number) for number in best.indices.tolist()]
        classes = list(zip(titles, best.values.tolist(), strict=True))
    return Look(
        network.full_name,
        name,
        network.preprocessing.pixels(x)[0],
        classes,
        {layer: _strongest(network, x, layer, found, units) for layer, found in maps.items()},
    )


def _strongest(network: Network, x: Tensor, layer: str, maps: Tensor, count: int) -> list[UnitLook]:
    maxima = maps.flatten(1).amax(dim=1)
    chosen = maxima.argsort(descending=True, stable=True)[:count]
    chosen = chosen[maxima[chosen] > 0].cpu()
    field = network.layer(layer).field
    looks = []
    for part in torch.split(chosen, 32):  # a bound on memory, however many units are asked for
        projected = project_batch(network, x.expand(len(part), -1, -1, -1), layer, part)
        for index, unit in enumerate(part.tolist()):
            row, column = int(projected.rows[index]), int(projected.columns[index])
            value, pixels = float(projected.values[index]), projected.pixels[index].float().cpu()
            box = field.patch_box(row, column)
            looks.append(UnitLook(unit, value, row, column, box, maps[unit].float().cpu().numpy(), pixels))
    return looks


def _class_name(network: Network, number: int) -> str:
    return network.classes[number][1] if network.classes else f"class {number}"
