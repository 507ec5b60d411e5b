"""Project activations down to pixel space (section 2.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointError

from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.models import Network
from deconvnet.projection.picture import picture
from deconvnet.projection.rules import DECONVNET, rule_set
from deconvnet.tracing import Box, CroppedForward, Layer, Rules, TraceMismatch, exact_float32, paste

Start = Literal["activation", "one"]
Position = tuple[int, int]

#: The largest batch that `project` runs at once; more activations take several batches.
_MAX_BATCH = 32

#: Cost of a cropped pass, as a fraction of a full pass's multiplications, below which the crop is used.
CROP_COST_THRESHOLD = 0.7


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


@dataclass(frozen=True)
class ProjectionBatch:
    """The projections of N activations, one per input (section 2.1), on the network's device."""

    crops: Tensor
    """(N, 3, h, w), signed, in the space of the network's input. Every pixel outside them is zero, as the activations do not
    depend on it."""
    corners: Tensor
    """(N, 2) row and column of each crop's first pixel in the input; a crop may extend beyond the input."""
    size: tuple[int, int]
    """Height and width of the input."""
    values: Tensor
    """(N,) the projected activations."""
    rows: Tensor
    """(N,) their rows in the feature maps."""
    columns: Tensor
    """(N,) their columns in the feature maps."""

    @property
    def pixels(self) -> Tensor:
        """(N, 3, H, W), the projections at the size of the input."""
        return self._at(torch.zeros_like(self.corners), self.size)

    def crop(self, layer: Layer) -> Tensor:
        """(N, 3, h, w), each projection cropped to its receptive field moved inside the input (`ReceptiveField.patch_box`).

        `layer` is the layer that was projected; (h, w) is the size of its field, at most that of the input.
        """
        positions = zip(self.rows.tolist(), self.columns.tolist(), strict=True)
        boxes = [layer.field.patch_box(row, column) for row, column in positions]
        height, width = layer.field.patch_size
        return self._at(torch.tensor([(box.top, box.left) for box in boxes]).view(-1, 2), (height, width))

    def _at(self, corners: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, 3, *size), the window of each projection whose first row and column are `corners` (N, 2)."""
        if tuple(self.crops.shape[2:]) == size and torch.equal(self.corners, corners):
            return self.crops
        windows = self.crops.new_zeros(*self.crops.shape[:2], *size)
        paste(windows, self.crops, self.corners - corners)
        return windows


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
        places += zip(batch.rows.tolist(), batch.columns.tolist(), strict=True)
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
    _check_positions(network.layer(layer), positions)
    return int(maps[:, row, column].argmax())


def strongest_position(maps: Tensor, units: Tensor) -> Tensor:
    """(N, 2) the row and column of the largest activation of units[n] in maps[n], the first in row-major order among equals.

    `maps` is (N, units, rows, columns), such as feature maps as `Network.capture` passes them; `units` is (N,).
    """
    indices = maps[torch.arange(len(maps), device=maps.device), units].flatten(1).argmax(dim=1)
    return torch.stack([indices // maps.shape[3], indices % maps.shape[3]], dim=1)


def project_batch(
    network: Network,
    x: Tensor,
    layer: str,
    units: Tensor,
    positions: Tensor | None = None,
    start: Start = "activation",
    rules: str | Rules = DECONVNET,
    allow_cropping: bool = True,
) -> ProjectionBatch:
    """Project activation (units[n], positions[n]) of `layer` for each x[n], in one forward and one backward pass.

    The batched core of `project`, with the same errors; its memory grows with N. `units` is (N,), `positions` (N, 2) rows
    and columns, or None for each unit's largest activation. `allow_cropping` False computes full images even where a crop
    to what the activations depend on would be cheaper: the same up to rounding.
    """
    _check_arguments(network, x, layer, units, positions, start)
    rules = rule_set(rules)
    if rules.refuse_other_activations:
        network.warn_without_rule(layer)
    x, units = x.detach().to(network.device, network.dtype), units.to(network.device)
    positions = None if positions is None else positions.to(network.device)
    size = x.shape[2], x.shape[3]
    plan = network.crop_plan(layer) if allow_cropping else None
    # A pooling rule may depend on windows outside the crop: with "overwrite" they write their zeros.
    if plan is not None and plan.cost < CROP_COST_THRESHOLD and rules.pool is None:
        if positions is None:
            positions = strongest_position(network.activations(x, layer), units)
        try:
            cropped = CroppedForward(plan, positions)
            first = torch.zeros_like(positions)  # the maps of the layer have a single position each
            crops, values, _ = _forward_backward(network, cropped.crop_input(x), layer, units, first, start, rules, cropped)
            return ProjectionBatch(crops, cropped.corners, size, values, *positions.unbind(dim=1))
        except torch.OutOfMemoryError:
            raise  # full images need more memory still
        except (TraceMismatch, DeconvnetError, RuntimeError, TypeError, ValueError, LookupError, AttributeError):
            pass  # whatever a module does with crops, its behaviour on full images decides
    pixels, values, positions = _forward_backward(network, x, layer, units, positions, start, rules)
    corners = torch.zeros(len(x), 2, dtype=torch.int64)
    return ProjectionBatch(pixels, corners, size, values, *positions.unbind(dim=1))


def _forward_backward(
    network: Network,
    x: Tensor,
    layer: str,
    units: Tensor,
    positions: Tensor | None,
    start: Start,
    rules: Rules,
    cropped: CroppedForward | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One forward and one backward pass: the projections (as large as `x`), the activations and their positions."""
    # A fresh leaf: the caller's tensor is neither changed nor given a gradient, and inference mode does not matter.
    with torch.inference_mode(False), torch.enable_grad(), exact_float32():
        pixels = x.clone().requires_grad_()
        captured: list[Tensor] = []
        try:
            network.capture(pixels, [layer], lambda _, maps: captured.append(maps), rules, cropped)
            maps = captured[0]
            if positions is None:
                positions = strongest_position(maps.detach(), units)
            chosen = torch.arange(len(x), device=maps.device), units, *positions.unbind(dim=1)
            values = maps.detach()[chosen]
            signal = torch.zeros_like(maps)
            signal[chosen] = values if start == "activation" else (values > 0).to(maps.dtype)
            # The gradient of the sum is the signal, to the bit. With the signal as a third argument the first call of `grad`
            # imports torch's symbolic shapes, which takes seconds and serves nothing here.
            total = (maps * signal).sum()
            projections = torch.autograd.grad(total, pixels, allow_unused=True)[0] if maps.requires_grad else None
        except RuntimeError as error:
            if reason := _explain_autograd_error(error):
                raise DeconvnetError(f"There is no way down from {layer} of {network.name}: {reason}.") from error
            raise
    if projections is None:
        raise DeconvnetError(
            f"There is no way down from {layer} of {network.name}: its forward pass cuts it off, by torch.no_grad, detach "
            "or a function with a backward pass of its own."
        )
    return projections, values, positions


def _explain_autograd_error(error: RuntimeError) -> str:
    """Why a module's backward pass failed and what to do about it; empty if the error is of no known kind."""
    if "inplace operation" in str(error) or "modified inplace" in str(error):
        return "it changes in place what is needed on the way down, so write x = x + y for x += y"
    if isinstance(error, CheckpointError):
        return "it computes parts again on the way down, so switch its activation checkpointing off"
    return ""


def _position_list(position: Position | Sequence[Position]) -> list[Position]:
    """One position or several as a list of (row, column); raises `UsageError` for anything else."""
    try:
        if len(position) == 2 and all(isinstance(number, Integral) for number in position):
            position = [position]  # type: ignore[list-item]
        return [(int(row), int(column)) for row, column in position]  # type: ignore[misc]
    except (TypeError, ValueError):
        raise UsageError(f"A position is (row, column), or a list of such pairs, not {position!r}.") from None


def _check_arguments(network: Network, x: Tensor, layer: str, units: Tensor, positions: Tensor | None, start: str) -> None:
    unit_count = network.layer(layer).units
    network.check_input(x)
    if len(units) != len(x) or (positions is not None and tuple(positions.shape) != (len(x), 2)):
        shape = None if positions is None else tuple(positions.shape)
        raise UsageError(
            f"{len(x)} inputs need as many units, and positions of shape ({len(x)}, 2), not {len(units)} units and {shape}."
        )
    unknown = [unit for unit in units.tolist() if unit not in range(unit_count)]
    if unknown:
        raise UsageError(f"{layer} of {network.name} has no unit {unknown[0]}: its units are 0–{unit_count - 1}.")
    if positions is not None:
        _check_positions(network.layer(layer), positions.tolist())
    if start not in ("activation", "one"):
        raise UsageError(f'start is "activation" or "one", not {start!r}.')


def _check_positions(layer: Layer, positions: Sequence[Sequence[int]]) -> None:
    rows, columns = layer.map_size
    if any(row not in range(rows) or column not in range(columns) for row, column in positions):
        raise UsageError(
            f"The feature maps of {layer.name} are {rows}×{columns}: a position is 0–{rows - 1},0–{columns - 1}."
        )
