"""How much of a unit's answer falls between the steps of its stride (section 4.1: "aliasing artifacts" of stride 4)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deconvnet.data import ImageSet, batches
from deconvnet.data.transforms import central_view
from deconvnet.errors import DeconvnetError
from deconvnet.models import Network
from deconvnet.tracing import Layer

#: A unit whose variance is a smaller share of its mean square answers the same everywhere, but for rounding; in numbers of
#: lower precision, the square of theirs if that is more.
_CONSTANT = 1e-10


class Aliased(NamedTuple):
    """The shares of each unit's answers, (units,) float64 from 0 to 1, that steps cannot hold."""

    own: Tensor
    """The layer's own steps: what comes out of it as false patterns."""
    first: Tensor
    """The first layer's steps: what false patterns of the first layer may bring about in this one."""


def aliasing(
    network: Network, image_set: ImageSet, indices: Sequence[int], layers: Sequence[str], workers: int | None = None
) -> dict[str, Aliased]:
    """The aliased shares of each unit's answers to the photos of `indices`, for each of some layers, from the bottom up.

    A layer whose maps have one place for every j pixels sees a photo anew only when that moves by j. So the photo is moved
    by 0, 1 … j−1 pixels, along rows and along columns; the maps found at these shifts, put between each other, are
    the unit's answer r at every pixel. Sampling theory says which part of it a map with steps of j cannot hold: what varies
    faster than half a cycle for each step, and comes out as a false, slower pattern. With r̂ the spectrum of r (without
    its mean, in a Hann window) along the axis that was moved,

        A = Σ_{|f| > 1/2j} |r̂(f)|² / Σ_f |r̂(f)|²

    over all lines of the maps, both axes and all photos together. With j = 1 nothing can be aliased: 0. An answer
    without any structure has 1 − 1/j. The same sum with the j of the first of `layers` is of what varies faster than that
    layer can hold: where it aliases, the answers of layers above it change as the photo moves between its steps. Zhang
    2019 ("Making convolutional networks shift-invariant again") traces the lack of shift-invariance of networks to this.
    Places whose receptive fields reach beyond the border do not count, as the border does not move; a mean image that is
    subtracted does not move either, and does count. NaN for a unit that answers the same everywhere (a dead one), and for
    all of a layer that has no two places side by side that count.

    Raises `DeconvnetError` if no photo can be read.
    """
    field = network.layer(layers[0]).field
    found = {name: _Sums(network.layer(name), (field.rows.jump, field.columns.jump)) for name in layers}
    steps = max((jump for sums in found.values() for jump in sums.jumps), default=1)
    crop = network.preprocessing.crop
    side = crop + steps - 1

    def larger(photo: Image.Image) -> Tensor:
        """A view that leaves room to move in: (side, side, 3) uint8."""
        resize = max(network.preprocessing.resize, side)
        return torch.from_numpy(np.array(central_view(photo, resize, side, network.preprocessing.interpolation)))

    read = 0
    for batch in batches(image_set, larger, 1, workers, indices):
        for pixels in batch.inputs[batch.rows]:
            read += 1
            for axis in (0, 1):
                views = torch.stack([pixels.narrow(axis, shift, crop).narrow(1 - axis, 0, crop) for shift in range(steps)])
                with torch.inference_mode():
                    network.capture(
                        network.preprocessing.normalise(views),
                        layers,
                        lambda name, maps, axis=axis: found[name].add(maps, axis),  # type: ignore[misc]
                    )
    if not read:
        raise DeconvnetError(f"None of {len(indices)} photos in {image_set.root} can be read.")
    return {name: sums.shares() for name, sums in found.items()}


class _Sums:
    """Spectral energy of one layer's units so far: aliased by its own steps and by the first layer's, of all that varies,
    and with the mean.
    """

    def __init__(self, layer: Layer, first_jumps: tuple[int, int]) -> None:
        self.jumps, self.first_jumps = (layer.field.rows.jump, layer.field.columns.jump), first_jumps
        self.inside = [
            [
                place
                for place in range(count)
                if field.start + place * field.jump >= 0 and field.start + place * field.jump + field.size <= length
            ]
            for field, count, length in (
                (layer.field.rows, layer.map_size[0], layer.field.height),
                (layer.field.columns, layer.map_size[1], layer.field.width),
            )
        ]
        self.energy = torch.zeros(4, layer.units, dtype=torch.float64)
        self.constant = _CONSTANT

    def add(self, maps: Tensor, axis: int) -> None:
        """Take in the maps (shifts, units, rows, columns) of one photo moved along an axis."""
        jump, places, across = self.jumps[axis], self.inside[axis], self.inside[1 - axis]
        if jump == 0 or len(places) < 2:
            return
        self.constant = max(_CONSTANT, torch.finfo(maps.dtype).eps ** 2)
        lines = maps[:jump].cpu().double().movedim(2 + axis, 3)[:, :, across][..., places]  # (jump, units, lines, places)
        answer = lines.permute(1, 2, 3, 0).flatten(2)  # (units, lines, pixels)
        length = answer.shape[2]
        window = torch.hann_window(length + 2, periodic=False, dtype=torch.float64)[1:-1]
        power = torch.fft.rfft((answer - answer.mean(dim=2, keepdim=True)) * window).abs().square()
        power[..., 1 : (length + 1) // 2] *= 2  # the negative frequencies
        for row, steps in enumerate((jump, self.first_jumps[axis])):
            aliased = torch.arange(power.shape[2]) * 2 * steps > length
            self.energy[row] += power[..., aliased].sum(dim=(1, 2))
        self.energy[2] += power.sum(dim=(1, 2))
        self.energy[3] += (torch.fft.rfft(answer * window).abs().square()).sum(dim=(1, 2))

    def shares(self) -> Aliased:
        *aliased, all_that_varies, whole = self.energy
        varies = all_that_varies > self.constant * whole
        return Aliased(*((energy / all_that_varies).where(varies, torch.nan) for energy in aliased))
