"""How much of a unit's response is above its stride's Nyquist limit (section 4.1: "aliasing artifacts" of stride 4)."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from deconvnet.data import Batch, ImageSet, InputSet, batches
from deconvnet.errors import DeconvnetError
from deconvnet.models import InputReader, Network, to_inputs
from deconvnet.tracing import Layer

#: A unit whose variance is a smaller fraction of its mean square is constant but for rounding; for activations of lower
#: precision, the square of their machine epsilon if that is larger.
_MIN_RELATIVE_VARIANCE = 1e-10


class AliasedFractions(NamedTuple):
    """Fractions of each unit's response energy above a Nyquist limit, (units,) float64 from 0 to 1."""

    above_nyquist: Tensor
    """The limit of the layer's own stride: what appears in its maps as false patterns."""
    above_first_nyquist: Tensor
    """The limit of the first layer's stride: what the first layer's false patterns may cause in this layer."""


def aliased_fractions(
    network: Network, image_set: InputSet, indices: Sequence[int], layers: Sequence[str], workers: int | None = None
) -> dict[str, AliasedFractions]:
    """The aliased fractions of each unit's response to the images `indices`, for each of `layers`, from the bottom up.

    The stride j of a layer is in pixels of the input, the jump of its receptive field. The image is translated by 0, 1 … j−1
    pixels, along rows and along columns; the maps at these shifts, interleaved, are the unit's response r at every pixel. By
    the sampling theorem a map of stride j cannot hold what varies faster than half a cycle per step: it appears as a false,
    slower pattern. With r̂ the spectrum of r (without its mean, in a Hann window) along the axis of the translation,

        A = Σ_{|f| > 1/2j} |r̂(f)|² / Σ_f |r̂(f)|²

    over all lines of the maps, both axes and all images together. With j = 1 nothing can be aliased: 0. White noise has 1 −
    1/j. The same sum with the j of the first of `layers` is of what varies faster than that layer can hold: where it
    aliases, the responses of layers above it change as the image moves between its steps. Zhang 2019 ("Making convolutional
    networks shift-invariant again") traces networks' lack of shift invariance to this. Positions whose receptive fields
    extend beyond the border do not count, as the border does not move; a mean image that is subtracted does not move either,
    but does count. Inputs of a data set have nothing beyond their border, so there positions do not count either that see
    the rows or columns that a translation would bring in. NaN for a unit with a constant response (a dead one), and for all
    units of a layer without two adjacent positions that count.

    Raises `DeconvnetError` if no image can be read.
    """
    field = network.layer(layers[0]).field
    jumps = [jump for name in layers for jump in _jumps(network.layer(name))]
    shifts = max(1, *jumps)
    # Of a photo there is more than the view; of an input there is not.
    missing = 0 if isinstance(image_set, ImageSet) else max(shifts - 1, 0)
    energies = {
        name: _SpectralEnergy(network.layer(name), (field.rows.jump, field.columns.jump), missing) for name in layers
    }

    def add_maps(axis: int, name: str, maps: Tensor) -> None:
        energies[name].add(maps, axis)

    read_count = 0
    for batch in _enlarged(network, image_set, indices, shifts, workers):
        for enlarged in batch.inputs[batch.rows]:
            read_count += 1
            for axis in (0, 1):
                views = _translated(network, enlarged, axis, shifts)
                with torch.inference_mode():
                    network.capture(to_inputs(network, views), layers, partial(add_maps, axis))
    if not read_count:
        raise DeconvnetError(f"None of {len(indices)} photos in {image_set.title} can be read.")
    return {name: energy.fractions() for name, energy in energies.items()}


def _jumps(layer: Layer) -> tuple[int, int]:
    return layer.field.rows.jump, layer.field.columns.jump


def _enlarged(
    network: Network, image_set: InputSet, indices: Sequence[int], shifts: int, workers: int | None
) -> Generator[Batch]:
    """Batches of one with room for all shifts: of photos uint8 pixels (H + shifts − 1, W + shifts − 1, 3), of data sets
    tensors (C, H + shifts − 1, W + shifts − 1), whose border is repeated.
    """
    if not isinstance(image_set, ImageSet):
        for batch in InputReader(network, image_set, 1).batches(indices, workers):
            yield replace(batch, inputs=F.pad(batch.inputs, (0, shifts - 1, 0, shifts - 1), mode="replicate"))
        return
    preprocessing = network.preprocessing.with_views("measuring aliasing")
    view_size = preprocessing.crop + shifts - 1

    def enlarged_view(image: Image.Image) -> Tensor:
        resize = max(preprocessing.resize, view_size)
        return torch.from_numpy(np.array(preprocessing.central_view(image, resize, view_size)))

    yield from batches(image_set, enlarged_view, 1, workers, indices)


def _translated(network: Network, enlarged: Tensor, axis: int, shifts: int) -> Tensor:
    """(shifts, …) the views in an enlarged one, translated along rows (axis 0) or columns (1), as `to_inputs` takes them."""
    first = 0 if enlarged.dtype == torch.uint8 else 1  # pixels have channels last
    size = network.input_shape[1:]
    unmoved = enlarged.narrow(first + 1 - axis, 0, size[1 - axis])
    return torch.stack([unmoved.narrow(first + axis, shift, size[axis]) for shift in range(shifts)])


class _SpectralEnergy:
    """The spectral energy of one layer's units, summed over images."""

    def __init__(self, layer: Layer, first_jumps: tuple[int, int], missing: int) -> None:
        """`first_jumps` are the first layer's jumps along (rows, columns); `missing` rows and columns at the end of the view
        are not to be seen.
        """
        self.jumps, self.first_jumps = _jumps(layer), first_jumps
        self.inner_positions = [
            [
                position
                for position in range(count)
                if field.start + position * field.jump >= 0
                and field.start + position * field.jump + field.size <= length - missing
            ]
            for field, count, length in (
                (layer.field.rows, layer.map_size[0], layer.field.height),
                (layer.field.columns, layer.map_size[1], layer.field.width),
            )
        ]
        """Along rows and along columns, the positions whose receptive field is inside the input."""
        self.aliased = torch.zeros(2, layer.units, dtype=torch.float64)
        """Above the Nyquist limit of the layer's stride, and of the first layer's."""
        self.varying = torch.zeros(layer.units, dtype=torch.float64)
        """Of all frequencies, without the mean."""
        self.total = torch.zeros(layer.units, dtype=torch.float64)
        """With the mean."""
        self.min_relative_variance = _MIN_RELATIVE_VARIANCE

    def add(self, maps: Tensor, axis: int) -> None:
        """Add the maps (shifts, units, rows, columns) of one image translated along an axis."""
        jump, positions, cross_positions = self.jumps[axis], self.inner_positions[axis], self.inner_positions[1 - axis]
        if jump <= 0 or len(positions) < 2:
            return
        self.min_relative_variance = max(_MIN_RELATIVE_VARIANCE, torch.finfo(maps.dtype).eps ** 2)
        lines = maps[:jump].cpu().double().movedim(2 + axis, 3)[:, :, cross_positions]
        response = lines[..., positions].permute(1, 2, 3, 0).flatten(2)  # (jump, units, lines, …) → (units, lines, pixels)
        length = response.shape[2]
        window = torch.hann_window(length + 2, periodic=False, dtype=torch.float64)[1:-1]
        power = torch.fft.rfft((response - response.mean(dim=2, keepdim=True)) * window).abs().square()
        power[..., 1 : (length + 1) // 2] *= 2  # the negative frequencies
        for row, stride in enumerate((jump, self.first_jumps[axis])):
            is_aliased = torch.arange(power.shape[2]) * 2 * stride > length
            self.aliased[row] += power[..., is_aliased].sum(dim=(1, 2))
        self.varying += power.sum(dim=(1, 2))
        self.total += (torch.fft.rfft(response * window).abs().square()).sum(dim=(1, 2))

    def fractions(self) -> AliasedFractions:
        is_varying = self.varying > self.min_relative_variance * self.total
        return AliasedFractions(*((energy / self.varying).where(is_varying, torch.nan) for energy in self.aliased))
