"""The projection of activations to pixel space (section 2.1)."""

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
from deconvnet.tracing import (
    Box,
    CroppedForward,
    Rules,
    TraceMismatch,
    exact_float32,
    paste,
)

Start = Literal["activation", "one"]
Position = tuple[int, int]

#: Activations projected in one backward pass by `project`; more are done in several.
_AT_ONCE = 32

#: The share of a whole pass's multiplications below which an activation's cone is cut out of it.
CROP_COST_THRESHOLD = 0.7


class Projection(Tensor):
    """What `project` returns, a tensor (N, 3, H, W) that shows itself as a picture in notebooks.

    What is computed anew from it, or cut out of it, is a plain tensor, without what this one knows.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    places: list[Position]
    """Of each projected activation, its row and column in its feature map."""
    activations: list[float]
    """Of each, its own value; what has 0 projects to nothing."""
    boxes: list[Box]
    """Of each, its receptive field in pixels of the input, moved inside: what to crop the view and the `picture` to."""

    def _repr_png_(self) -> bytes | None:
        return picture(self)._repr_png_()


@dataclass(frozen=True)
class ProjectionBatch:
    """The projections of N activations (section 2.1), on the network's device."""

    windows: Tensor
    """(N, 3, h, w), in the space of the network's input; signed. All else is zero: the activations do not depend on it."""
    starts: Tensor
    """(N, 2) the rows and columns where the windows stand in the input; they may reach beyond it."""
    size: tuple[int, int]
    """Height and width of the input."""
    values: Tensor
    """(N,) the activations themselves."""
    rows: Tensor
    """(N,) where they stand in their feature maps."""
    columns: Tensor
    """(N,) likewise."""

    @property
    def pixels(self) -> Tensor:
        """(N, 3, H, W), of the size of the input."""
        return self.cut(torch.zeros_like(self.starts), self.size)

    def cut(self, corners: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, 3, h, w) with (h, w) = `size`: the part of each projection whose first row and column are `corners` (N, 2)."""
        if tuple(self.windows.shape[2:]) == size and torch.equal(self.starts, corners):
            return self.windows
        part = self.windows.new_zeros(*self.windows.shape[:2], *size)
        paste(part, self.windows, self.starts - corners)
        return part


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

    `x` are inputs as `Network.preprocess` makes them, and what comes out is in the same space, on the network's device and
    of its dtype: exactly zero outside the receptive field, never rectified. `picture` draws it, zero as mid-grey; in a
    notebook it shows itself. Its `places` say where the activations stand, its `activations` how strong they are, and its
    `boxes` what part of the view they see.

    `unit` and `position` (row, column), counted from 0, are one for all inputs or one for each; with several units or
    positions and one input, that input serves for all. (The unit that a photo drives most is its `strongest_unit`.)
    `position` None takes each unit's strongest (the first in row-major order among equals). The signal that goes down is the
    activation's own value, or 1 with `start="one"`; every other activation of the layer is zero, and an activation of 0
    projects to zeros. `rules` are the paper's or, by name, those of another method (see `RULES`).

    Raises `UsageError` for a layer, unit or position that the network does not have, inputs of another shape, counts that
    do not match, or rules of no known name; `DeconvnetError` if there is no way down, as behind SiLU in place of ReLU or
    where a module cuts it off.
    """
    network.check_input(x)
    units = [unit] if isinstance(unit, Integral) else [int(number) for number in unit]  # type: ignore[union-attr]
    positions = [None] if position is None else _positions(position)
    count = max(len(x), len(units), len(positions))
    if any(length not in (1, count) for length in (len(x), len(units), len(positions))):
        raise UsageError(
            f"{len(x)} inputs, {len(units)} units and {len(positions)} positions do not match: give one or {count} of each."
        )
    x = x.expand(count, -1, -1, -1)
    units, positions = units * (count // len(units)), positions * (count // len(positions))
    parts: list[Tensor] = []
    found: list[Position] = []
    values: list[float] = []
    for first in range(0, count, _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        places = [place for place in positions[part] if place is not None]
        at = torch.tensor(places) if places else None
        projected = project_batch(network, x[part], layer, torch.tensor(units[part]), at, start, rules)
        parts.append(projected.pixels)
        found += zip(projected.rows.tolist(), projected.columns.tolist(), strict=True)
        values += projected.values.tolist()
    projection = torch.cat(parts).as_subclass(Projection)
    projection.places, projection.activations, field = found, values, network.layer(layer).field
    projection.boxes = [field.patch_box(*place) for place in found]
    return projection


def strongest_unit(network: Network, x: Tensor, layer: str, position: Position | None = None) -> int:
    """The unit of `layer` with the largest activation for the one input `x` (1, 3, H, W), anywhere in its feature map or at
    one `position` (row, column); the first among equals.

    Raises `UsageError` for a layer or a position that the network does not have.
    """
    found = network.layer(layer)
    maps = network.activations(x, layer)[0].view(found.units, *found.map_size)
    if position is None:
        return int(maps.flatten(1).amax(dim=1).argmax())
    place = torch.tensor(_positions([position]))
    _check(network, x, layer, torch.zeros(1, dtype=torch.int64), place, "activation")
    return int(maps[:, place[0, 0], place[0, 1]].argmax())


def project_batch(
    network: Network,
    x: Tensor,
    layer: str,
    units: Tensor,
    positions: Tensor | None = None,
    start: Start = "activation",
    rules: str | Rules = DECONVNET,
    cones: bool = True,
) -> ProjectionBatch:
    """Project activation (units[n], positions[n]) of `layer` for each x[n], in one forward and one backward pass.

    `units` is (N,), `positions` (N, 2) rows and columns, or None for each unit's strongest activation. As `project`, of
    which it is the batched core; its memory grows with N. `cones` False computes whole images even where only the
    activation's cone would do: the same up to rounding.
    """
    _check(network, x, layer, units, positions, start)
    rules = rule_set(rules)
    if rules.refuse_other_activations:
        network.warn_without_rule(layer)
    x, units = x.detach().to(network.device, network.dtype), units.to(network.device)
    positions = None if positions is None else positions.to(network.device)
    cone = network.cone(layer) if cones else None
    # Overwriting depends on the windows outside a cone as well: they write their zeros.
    if cone is not None and cone.share < CROP_COST_THRESHOLD and rules.pool is None:
        if positions is None:
            positions = _strongest(network.activations(x, layer), units)
        try:
            cut = CroppedForward(cone, positions)
            windows, values, _ = _down(network, cut.window(x), layer, units, torch.zeros_like(positions), start, rules, cut)
            return ProjectionBatch(windows, cut.starts, (x.shape[2], x.shape[3]), values, *positions.unbind(dim=1))
        except (TraceMismatch, DeconvnetError, RuntimeError, TypeError, ValueError, LookupError, AttributeError):
            pass  # whatever a module makes of cut-outs, what it makes of whole images decides
    pixels, values, positions = _down(network, x, layer, units, positions, start, rules)
    starts = torch.zeros(len(x), 2, dtype=torch.int64)
    return ProjectionBatch(pixels, starts, (x.shape[2], x.shape[3]), values, *positions.unbind(dim=1))


def _down(
    network: Network,
    x: Tensor,
    layer: str,
    units: Tensor,
    positions: Tensor | None,
    start: Start,
    rules: Rules,
    cut: CroppedForward | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One forward and one backward pass: what arrives at the pixels, the activations, and where they stand."""
    # A leaf of its own: the caller's tensor is neither changed nor given a gradient, and inference mode does not matter.
    with torch.inference_mode(False), torch.enable_grad(), exact_float32():
        pixels = x.clone().requires_grad_()
        observed: list[Tensor] = []
        try:
            network.capture(pixels, [layer], lambda _, maps: observed.append(maps), rules, cut)
            maps = observed[0]
            if positions is None:
                positions = _strongest(maps.detach(), units)
            chosen = torch.arange(len(x), device=maps.device), units, *positions.unbind(dim=1)
            values = maps.detach()[chosen]
            signal = torch.zeros_like(maps)
            signal[chosen] = values if start == "activation" else (values > 0).to(maps.dtype)
            down = torch.autograd.grad(maps, pixels, signal, allow_unused=True)[0] if maps.requires_grad else None
        except RuntimeError as error:
            if reason := _no_way(error):
                raise DeconvnetError(f"There is no way down from {layer} of {network.name}: {reason}.") from error
            raise
    if down is None:
        raise DeconvnetError(
            f"There is no way down from {layer} of {network.name}: its forward pass cuts it off, by torch.no_grad, detach "
            "or a function with a backward pass of its own."
        )
    return down, values, positions


def _no_way(error: RuntimeError) -> str:
    """What is to be done about an error of autograd's, if it is one of those that a module can cause."""
    if "inplace operation" in str(error) or "modified inplace" in str(error):
        return "it changes in place what is needed on the way down, so write x = x + y for x += y"
    if isinstance(error, CheckpointError):
        return "it computes parts again on the way down, so switch its activation checkpointing off"
    return ""


def _strongest(maps: Tensor, units: Tensor) -> Tensor:
    """(N, 2) where units[n] is strongest in maps[n] (units, rows, columns); the first among equals, as torch says."""
    places = maps[torch.arange(len(maps), device=maps.device), units].flatten(1).argmax(dim=1)
    return torch.stack([places // maps.shape[3], places % maps.shape[3]], dim=1)


def _positions(position: Position | Sequence[Position]) -> list[Position | None]:
    try:
        if len(position) == 2 and all(isinstance(number, Integral) for number in position):
            position = [position]  # type: ignore[list-item]
        return [(int(row), int(column)) for row, column in position]  # type: ignore[misc]
    except (TypeError, ValueError):
        raise UsageError(f"A position is (row, column), or a list of such pairs, not {position!r}.") from None


def _check(network: Network, x: Tensor, layer: str, units: Tensor, positions: Tensor | None, start: str) -> None:
    found = network.layer(layer)
    rows, columns = found.map_size
    network.check_input(x)
    if len(units) != len(x) or (positions is not None and tuple(positions.shape) != (len(x), 2)):
        shape = None if positions is None else tuple(positions.shape)
        raise UsageError(
            f"{len(x)} inputs need as many units, and positions of shape ({len(x)}, 2), not {len(units)} units and {shape}."
        )
    wrong = [unit for unit in units.tolist() if unit not in range(found.units)]
    if wrong:
        raise UsageError(f"{layer} of {network.name} has no unit {wrong[0]}: its units are 0–{found.units - 1}.")
    places = [] if positions is None else positions.tolist()
    if any(row not in range(rows) or column not in range(columns) for row, column in places):
        raise UsageError(f"The feature maps of {layer} are {rows}×{columns}: a position is 0–{rows - 1},0–{columns - 1}.")
    if start not in ("activation", "one"):
        raise UsageError(f'start is "activation" or "one", not {start!r}.')
