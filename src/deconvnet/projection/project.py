"""Project activations down to pixel space (section 2.1)."""

from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor

from deconvnet.errors import UsageError
from deconvnet.models import Network
from deconvnet.projection.batch import Start, check_positions, project_batch
from deconvnet.projection.picture import picture
from deconvnet.tracing import Box, Rules

Position = tuple[int, int]

#: The largest batch that `project` runs at once; more activations take several batches.
_MAX_BATCH = 32


class Projection(Tensor):
    """What `project` returns: a tensor (N, 3, H, W) that displays itself as a picture in notebooks.

    Results of operations and indexing are plain tensors without these attributes.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    places: list[Position]
    """The row and column of each projected activation in its feature map."""
    activations: list[float]
    """The value of each projected activation; 0 projects to zeros."""
    boxes: list[Box]
    """The receptive field of each, in input pixels, moved inside the input: what to crop the view and the `picture` to."""

    def _repr_png_(self) -> bytes | None:
        return picture(self)._repr_png_()


def project(
    network: Network,
    x: Tensor,
    *,
    layer: str,
    unit: int | Sequence[int],
    position: Position | Sequence[Position] | None = None,
    start: Start = "activation",
    rules: str | Rules = "deconvnet",
) -> Projection:
    """Project one activation of each input in `x` (N, 3, H, W) down to pixels (section 2.1): (N, 3, H, W), signed.

    `x` are inputs as `Network.preprocess` makes them. The result is in the same space, on the network's device and of its
    dtype: exactly zero outside the receptive field, never rectified. `picture` draws it with zero as mid-grey; in a notebook
    it displays itself. Its `places` are the positions of the activations, its `activations` their values, and its `boxes`
    their receptive fields in the view.

    `unit` and `position` (row, column), counted from 0, are one for all inputs or one for each; with several units or
    positions and one input, that input is used for all. (`strongest_unit` finds an input's most active unit.)
    `position` None takes each unit's largest activation (the first in row-major order among equals). The signal sent down is
    the activation's own value, or 1 with `start="one"`; every other activation of the layer is set to zero, and an
    activation of 0 projects to zeros. `rules` are the paper's or, by name, those of another method (see `RULES`).

    Raises `UsageError` for a layer, unit or position that the network does not have, inputs of another shape, counts that
    do not match, or rules of no known name; `DeconvnetError` if no signal can be sent down, as behind SiLU in place of ReLU
    or where the module detaches its input.
    """
    network.check_input(x)
    units = [unit] if isinstance(unit, Integral) else [int(index) for index in unit]  # type: ignore[union-attr]
    positions = [None] if position is None else _position_list(position)
    count = max(len(x), len(units), len(positions))
    if any(length not in (1, count) for length in (len(x), len(units), len(positions))):
        raise UsageError(
            f"{len(x)} inputs, {len(units)} units and {len(positions)} positions do not match: give one or {count} of each."
        )
    x = x.expand(count, -1, -1, -1)
    units, positions = units * (count // len(units)), positions * (count // len(positions))
    pixels: list[Tensor] = []
    places: list[Position] = []
    activations: list[float] = []
    for first in range(0, count, _MAX_BATCH):
        chunk = slice(first, first + _MAX_BATCH)
        chunk_positions = None if position is None else torch.tensor(positions[chunk])
        batch = project_batch(network, x[chunk], layer, torch.tensor(units[chunk]), chunk_positions, start, rules)
        pixels.append(batch.pixels)
        places += [(row, column) for row, column in batch.positions()]
        activations += batch.values.tolist()
    projection = torch.cat(pixels).as_subclass(Projection)
    field = network.layer(layer).field
    projection.places, projection.activations = places, activations
    projection.boxes = [field.patch_box(*place) for place in places]
    return projection


def strongest_unit(network: Network, x: Tensor, layer: str, position: Position | None = None) -> int:
    """The unit of `layer` with the largest activation for the one input `x` (1, 3, H, W), anywhere in its feature map or at
    one `position` (row, column); the first among equals.

    Raises `UsageError` for a layer or a position that the network does not have.
    """
    maps = network.activations(x, layer)[0].view(network.layer(layer).units, *network.layer(layer).map_size)
    if position is None:
        return int(maps.flatten(1).amax(dim=1).argmax())
    ((row, column),) = positions = _position_list([position])
    check_positions(network.layer(layer), positions)
    return int(maps[:, row, column].argmax())


def _position_list(position: Position | Sequence[Position]) -> list[Position]:
    """One position or several as a list of (row, column); raises `UsageError` for anything else."""
    try:
        if len(position) == 2 and all(isinstance(number, Integral) for number in position):
            position = [position]  # type: ignore[list-item]
        return [(int(row), int(column)) for row, column in position]  # type: ignore[misc]
    except (TypeError, ValueError):
        raise UsageError(f"A position is (row, column), or a list of such pairs, not {position!r}.") from None
