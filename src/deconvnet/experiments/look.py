"""Take one image apart: its most probable classes, and the strongest units of each layer with their projections."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from deconvnet.data.channel_pictures import channels_as_rgb
from deconvnet.experiments.class_labels import class_name
from deconvnet.experiments.result import add_axes_inches, add_text_inches
from deconvnet.formatting import printable
from deconvnet.models import Network
from deconvnet.projection import display_scale, layers_with_way_down, project_batch, strongest_position, to_pixels
from deconvnet.tracing import Box, Layer

#: Classes that `look` lists.
_CLASSES = 5

#: Activations projected in one batch: a bound on memory, however many units are asked for.
_BATCH_SIZE = 32

#: In the figure, in inches: a row, what is above its pictures, a picture, and three of them with the space to the next unit.
_ROW_HEIGHT, _TITLE_HEIGHT, _PICTURE_SIZE, _UNIT_WIDTH = 1.28, 0.24, 0.88, 2.85


@dataclass(frozen=True)
class UnitActivation:
    """A unit's strongest activation for one image."""

    unit: int
    value: float
    """Above 0."""
    row: int
    """In the feature map, from 0."""
    column: int
    box: Box
    """Its receptive field in pixels of the view, moved inside it."""
    feature_map: Tensor
    """(rows, columns) float32 on the CPU: all activations of the unit."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the feature map."""
        return {"unit": self.unit, "value": self.value, "row": self.row, "column": self.column, "box": list(self.box)}


@dataclass(frozen=True)
class ProjectedUnit(UnitActivation):
    """A unit's strongest activation for one image, and its projection."""

    projection: Tensor
    """(C, h, w) float32 on the CPU, cropped to `box`."""


@dataclass(frozen=True)
class Look:
    """One network's result for one image, or another input."""

    network: str
    """Full name."""
    image_name: str
    view: np.ndarray
    """(H, W, 3) uint8, what the network sees of the image; or each channel by itself, as `Network.show` gives it."""
    classes: list[tuple[str, float]] | None
    """Name and probability of the most probable classes; None for a network that does not classify."""
    layers: dict[str, list[ProjectedUnit]]
    """Strongest units by layer, strongest first."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the pictures."""
        return {
            "network": self.network,
            "photo": self.image_name,
            "classes": self.classes and [{"class": name, "probability": p} for name, p in self.classes],
            "layers": {layer: [unit.as_json() for unit in units] for layer, units in self.layers.items()},
        }

    def figure(self) -> Figure:
        """The image with its classes, then a row per layer: feature map, projection and patch of each unit."""
        columns = max(1, *map(len, self.layers.values()))
        header = 2.6 if self.classes is None else 3.6  # in inches, as all numbers here
        margin = 0.3 + 0.125 * max(map(len, self.layers))  # for the names of the layers
        width, height = margin + _UNIT_WIDTH * columns, header + _ROW_HEIGHT * len(self.layers)
        figure = Figure(figsize=(width, height), dpi=110, facecolor="white")
        self._draw_header(figure, header - 0.4)
        # All pictures are in one pair of axes, whose unit is the inch: each pair of axes takes as long as several pictures.
        axes = add_axes_inches(figure, 0, header, width, height - header)
        axes.axis("off")
        for row, (layer, units) in enumerate(self.layers.items()):
            top = row * _ROW_HEIGHT
            middle = top + _TITLE_HEIGHT + _PICTURE_SIZE / 2
            axes.text(margin - 0.1, middle, layer, size=13, weight="bold", ha="right", va="center", parse_math=False)
            for column, unit in enumerate(units):
                self._draw_unit(axes, unit, margin + column * _UNIT_WIDTH, top)
        axes.set(xlim=(0, width), ylim=(height - header, 0))
        return figure

    def _draw_header(self, figure: Figure, height: float) -> None:
        view_size = height - 0.3
        view_axes = add_axes_inches(figure, 0.3, 0.3, view_size, view_size)
        view_axes.imshow(channels_as_rgb(self.view))
        view_axes.axis("off")
        left = view_size + 0.7
        add_text_inches(figure, left, 0.45, printable(self.image_name), fontsize=15, fontweight="bold")
        add_text_inches(figure, left, 0.75, self.network, fontsize=11, color="0.35")
        explanation = (
            "Each layer's most driven units: feature map, projection of its strongest activation\ndown to pixels, "
            "and the patch that it comes from."
        )
        add_text_inches(figure, left, height - 0.1, explanation, fontsize=11, color="0.35")
        if self.classes is None:
            no_classes = "These weights have no classifier: they are fine for looking, but cannot say what this is."
            add_text_inches(figure, left, 1.2, no_classes, fontsize=12)
            return
        axes = add_axes_inches(figure, view_size + 3.3, 0.95, 4.0, 1.85)
        names, probabilities = zip(*reversed(self.classes), strict=True)
        bars = axes.barh([name.replace("$", r"\$") for name in names], probabilities, color="#4477aa")
        axes.bar_label(bars, [f"{p:.1%}" for p in probabilities], padding=4)
        axes.set_xlim(0, 1.15)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelbottom=False, labelsize=11)

    def _draw_unit(self, axes: Axes, unit: ProjectedUnit, left: float, top: float) -> None:
        """Draw a unit's three pictures with their title; `left` and `top` are in inches, downwards."""
        box = unit.box
        pictures = (
            unit.feature_map.numpy(),
            to_pixels(unit.projection, display_scale(unit.projection)),
            channels_as_rgb(self.view[box.top : box.bottom, box.left : box.right]),
        )
        axes.text(left, top + _TITLE_HEIGHT - 0.04, f"unit {unit.unit} · {unit.value:.4g}", fontsize=9)
        for column, picture in enumerate(pictures):
            x, y = left + column * (_PICTURE_SIZE + 0.03), top + _TITLE_HEIGHT
            if picture.size == 1:  # a neuron of a fully connected layer
                middle = x + _PICTURE_SIZE / 2, y + _PICTURE_SIZE / 2
                axes.text(*middle, "one number,\nno map", ha="center", va="center", fontsize=8, color="0.6")
                continue
            rows, columns = (_PICTURE_SIZE * length / max(picture.shape[:2]) for length in picture.shape[:2])
            x, y = x + (_PICTURE_SIZE - columns) / 2, y + (_PICTURE_SIZE - rows) / 2
            axes.imshow(picture, cmap="magma", vmin=0, extent=(x, x + columns, y + rows, y), aspect="auto")


def look(network: Network, image: Image.Image | Tensor, image_name: str = "", units: int = 6) -> Look:
    """Take one image, or another input (C, H, W), apart: its five most probable classes and, in each layer, the `units`
    strongest units. Layers from which there is no way down are left out, with a warning.

    Units are ranked by their strongest activation; units that are not active at all are left out. Raises `UsageError` for a
    photo if the network has no preprocessing, and for an input of another shape.
    """
    x = image[None] if isinstance(image, Tensor) else network.preprocess(image)[None]
    strongest: dict[str, list[UnitActivation]] = {}

    def rank_units(layer: str, maps: Tensor) -> None:
        strongest[layer] = strongest_units(network.layer(layer), maps[0], units)

    with torch.no_grad():
        network.capture(x, layers_with_way_down(network, list(network.layers)), rank_units)
    classes = None
    if network.classifies:
        probabilities = network.probabilities(x)[0]
        top = probabilities.topk(min(_CLASSES, len(probabilities)))
        names = [class_name(network, index) for index in top.indices.tolist()]
        classes = list(zip(names, top.values.tolist(), strict=True))
    # From the highest down: it vouches for those below it, which are then not compared with autograd (`is_verified`).
    projected = {layer: _project(network, x, layer, strongest[layer]) for layer in reversed(strongest)}
    layers = {layer: projected[layer] for layer in strongest}
    return Look(network.input_space.caption(network.full_name), image_name, network.show(x)[0], classes, layers)


def strongest_units(layer: Layer, maps: Tensor, max_count: int) -> list[UnitActivation]:
    """The `max_count` units with the largest activations in `maps` (units, rows, columns), one image's output of `layer`.

    Strongest first; the first among equals. Units that are not active are left out, and so are those whose largest
    activation is not finite: broken weights may still have sound units.
    """
    maxima = maps.flatten(1).amax(dim=1)
    maxima = maxima.where(maxima.isfinite(), 0)
    units = maxima.argsort(descending=True, stable=True)[:max_count]
    positions = strongest_position(maps.expand(len(units), *maps.shape), units)
    feature_maps, values = maps[units].float().cpu(), maxima[units].tolist()
    return [
        UnitActivation(unit, value, row, column, layer.field.patch_box(row, column), feature_map)
        for (unit, row, column), value, feature_map in zip(
            torch.cat([units[:, None], positions], dim=1).tolist(), values, feature_maps, strict=True
        )
        if value > 0
    ]


def _project(network: Network, x: Tensor, layer: str, activations: list[UnitActivation]) -> list[ProjectedUnit]:
    """Project activations of one input x (1, C, H, W), in batches."""
    projected = []
    for start in range(0, len(activations), _BATCH_SIZE):
        batch = activations[start : start + _BATCH_SIZE]
        units = torch.tensor([activation.unit for activation in batch])
        positions = torch.tensor([(activation.row, activation.column) for activation in batch])
        values = torch.tensor([activation.value for activation in batch])
        photos = torch.zeros(len(batch), dtype=torch.int64)  # they all are in x
        projections = project_batch(network, x, layer, units, positions, photos=photos, values=values)
        crops = projections.crop(network.layer(layer)).float().cpu()
        projected += [
            ProjectedUnit(**vars(activation), projection=crop) for activation, crop in zip(batch, crops, strict=True)
        ]
    return projected
