"""Project a batch of activations down to pixel space (section 2.1): by switches alone, or by autograd."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointError

from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.models import Network
from deconvnet.models.rounding_error import probe_image
from deconvnet.projection.rules import DECONVNET, rule_set
from deconvnet.tracing import (
    CroppedForward,
    CropPlan,
    Layer,
    Rules,
    SwitchedPass,
    SwitchPlan,
    SwitchRecorder,
    TraceMismatch,
    crop_switches,
    empty_maps,
    exact_float32,
    paste,
    placeholder,
    uses_custom_backward,
)

Start = Literal["activation", "one"]

#: Cost of a cropped pass, as a fraction of a full pass's multiplications, below which the crop is used.
CROP_COST_THRESHOLD = 0.7

#: Projections by switches must be those by autograd to this relative difference, or 16 eps of the dtype, for a probe image.
_PROBE_TOLERANCE = 1e-3


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

    def positions(self) -> list[list[int]]:
        """The row and the column of each activation; waits for the device once."""
        return torch.stack([self.rows, self.columns], dim=1).tolist()

    def crop(self, layer: Layer) -> Tensor:
        """(N, 3, h, w), each projection cropped to its receptive field moved inside the input (`ReceptiveField.patch_box`).

        `layer` is the layer that was projected; (h, w) is the size of its field, at most that of the input.
        """
        boxes = [layer.field.patch_box(row, column) for row, column in self.positions()]
        height, width = layer.field.patch_size
        return self._at(torch.tensor([(box.top, box.left) for box in boxes]).view(-1, 2), (height, width))

    def _at(self, corners: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, 3, *size), the window of each projection whose first row and column are `corners` (N, 2)."""
        if tuple(self.crops.shape[2:]) == size and torch.equal(self.corners, corners):
            return self.crops
        windows = self.crops.new_zeros(*self.crops.shape[:2], *size)
        paste(windows, self.crops, self.corners - corners)
        return windows


def strongest_position(maps: Tensor, units: Tensor) -> Tensor:
    """(N, 2) the row and column of the largest activation of units[n] in maps[n], the first in row-major order among equals.

    `maps` is (N, units, rows, columns), such as feature maps as `Network.capture` passes them; `units` is (N,).
    """
    indices = maps[torch.arange(len(maps), device=maps.device), units].flatten(1).argmax(dim=1)
    return torch.stack([indices // maps.shape[3], indices % maps.shape[3]], dim=1)


def batches_by_photo(photos: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """The indices of activations in `photos` (n,) int64, in batches for `project_batch`: those in one photo lie together, as
    they share its forward pass, and photos with many come first.

    Batches are of equal sizes, at most `batch_size`, and even in number, so that of two cores neither waits for the other.
    """
    if not len(photos):
        return ()
    _, rows, counts = torch.unique(photos, return_inverse=True, return_counts=True)
    order = (rows - counts[rows] * len(photos)).argsort(stable=True)
    return torch.tensor_split(order, 2 * -(-len(photos) // (2 * batch_size)))


def project_batch(
    network: Network,
    x: Tensor,
    layer: str,
    units: Tensor,
    positions: Tensor | None = None,
    start: Start = "activation",
    rules: str | Rules = DECONVNET,
    *,
    photos: Tensor | None = None,
    values: Tensor | None = None,
    allow_cropping: bool = True,
) -> ProjectionBatch:
    """Project activation (units[n], positions[n]) of `layer` for x[photos[n]], all at once.

    The batched core of `project`, with the same errors; its memory grows with N. `units` is (N,), `positions` (N, 2) rows
    and columns, or None for each unit's largest activation. `photos` (N,) are rows of x, which several activations may
    share; None if each has its own. `values` (N,) are the activations if they are known, together with the positions: by
    the paper's rules the forward pass then ends at the highest max pooling below the layer. `allow_cropping` False computes
    full images even where a crop to what the activations depend on would be cheaper: the same up to rounding.

    Raises `DeconvnetError` for projections that are not finite.
    """
    photos = torch.arange(len(x)) if photos is None else photos.cpu()
    _check_arguments(network, x, layer, units, positions, photos, values, start)
    rules = rule_set(rules)
    if rules.refuse_other_activations:
        network.warn_without_rule(layer)
    x, units = x.detach().to(network.device, network.dtype), units.to(network.device)
    positions = None if positions is None else positions.to(network.device)
    values = None if values is None or positions is None else values.to(network.device, network.dtype)
    switch_plan, crop_plan = network.switch_plan(layer), network.crop_plan(layer)
    if crop_plan is not None and (not allow_cropping or crop_plan.cost >= CROP_COST_THRESHOLD):
        crop_plan = None
    if switch_plan is not None and rules == DECONVNET and _is_verified(network, layer, switch_plan):
        try:
            return _project_by_switches(network, switch_plan, crop_plan, x, photos, layer, units, positions, values, start)
        except torch.OutOfMemoryError:
            raise  # the other ways need more memory still
        except Exception:  # a module can raise anything
            pass
    x = x if len(x) == len(photos) and torch.equal(photos, torch.arange(len(x))) else x[photos.to(x.device)]
    # A pooling rule may depend on windows outside the crop: with "overwrite" they write their zeros.
    if crop_plan is not None and rules.pool is None:
        if positions is None:
            positions = strongest_position(network.activations(x, layer), units)
        try:
            return _project_by_autograd(
                network, x, layer, units, positions, start, rules, CroppedForward(crop_plan, positions)
            )
        except torch.OutOfMemoryError:
            raise  # full images need more memory still
        except Exception:  # whatever a module does with crops, its behaviour on full images decides
            pass
    return _project_by_autograd(network, x, layer, units, positions, start, rules)


def _is_verified(network: Network, layer: str, plan: SwitchPlan) -> bool:
    """Whether projections by switches are those by autograd, tried once on a probe image for two units of the layer.

    A module can do what its trace does not show, such as a scripted gate, which makes another value of a placeholder.
    """
    if layer not in network.verified_switch_plans:
        x, photos = probe_image(network).to(network.device, network.dtype), torch.zeros(2, dtype=torch.int64)
        maxima = network.activations(x, layer)[0].reshape(network.layer(layer).units, -1).amax(dim=1)
        units = maxima.argsort(descending=True)[:2].expand(2)
        try:
            expected = _project_by_autograd(network, x[photos], layer, units, None, "activation", DECONVNET)
            positions = torch.stack([expected.rows, expected.columns], dim=1)
            got = _project_by_switches(network, plan, None, x, photos, layer, units, positions, None, "activation")
            tolerance = max(_PROBE_TOLERANCE, 16 * torch.finfo(network.dtype).eps)
            apart, norm = (got.crops - expected.crops).float().norm(), expected.crops.float().norm()
            network.verified_switch_plans[layer] = bool(apart <= tolerance * norm)
        except torch.OutOfMemoryError:
            raise
        except Exception:  # a module can raise anything
            network.verified_switch_plans[layer] = False
    return network.verified_switch_plans[layer]


def _project_by_switches(
    network: Network,
    plan: SwitchPlan,
    crop_plan: CropPlan | None,
    x: Tensor,
    photos: Tensor,
    layer: str,
    units: Tensor,
    positions: Tensor | None,
    values: Tensor | None,
    start: Start,
) -> ProjectionBatch:
    """Record switches in a forward pass, then send the signals down by them, which reads nothing else of the photos.

    The way down is on crops if there is a `crop_plan`; the forward pass too, where the crops cost less than the photos.
    """
    each, to_layer = torch.arange(len(photos), device=x.device), values is None
    switches: dict[int, Tensor] = {}
    on_crops = False
    with torch.inference_mode(False):  # autograd cannot save tensors of inference mode
        if to_layer or plan.poolings:
            if crop_plan is not None and positions is not None:
                on_crops = len(photos) * (crop_plan.cost if to_layer else plan.cost_to_poolings) < len(x)
            cropped = CroppedForward(crop_plan, positions) if on_crops else None  # type: ignore[arg-type]
            recorder = SwitchRecorder(plan, to_layer, cropped)
            inputs = network.module_input(x) if cropped is None else cropped.crop_input(x, photos)
            with torch.no_grad():
                maps = network.capture_partial(inputs, layer, recorder)
            if maps is not None:
                rows = each if on_crops else photos.to(x.device)
                if positions is None:
                    positions = strongest_position(maps[rows], units)
                values = maps[rows, units, 0, 0] if on_crops else maps[rows, units, *positions.unbind(dim=1)]
            switches = recorder.switches
        if values is None or positions is None:
            raise TraceMismatch

        if crop_plan is None:
            switches = {index: whole[photos.to(x.device)] for index, whole in switches.items()}
            down, size, corners = None, x.shape[2:], torch.zeros(len(photos), 2, dtype=torch.int64)
            chosen = each, units, *positions.unbind(dim=1)
        else:
            if not on_crops:
                switches = crop_switches(plan, switches, photos, positions.cpu())
            down = CroppedForward(crop_plan, positions, shapes_only=True)
            size, corners = torch.Size(down.input_size), down.corners
            chosen = each, units, each * 0, each * 0  # the maps of the layer have a single position each
        pixels = placeholder(x, (len(photos), x.shape[1], *size)).requires_grad_()
        with torch.enable_grad():
            maps = network.capture_partial(pixels, layer, SwitchedPass(plan, switches, down))
            if maps is None or uses_custom_backward(maps):
                raise TraceMismatch
            crops = _send_down(network, layer, maps, pixels, chosen, values, start)
        if crops is None:
            raise TraceMismatch
    return ProjectionBatch(crops, corners, (x.shape[2], x.shape[3]), values, *positions.unbind(dim=1))


def _project_by_autograd(
    network: Network,
    x: Tensor,
    layer: str,
    units: Tensor,
    positions: Tensor | None,
    start: Start,
    rules: Rules,
    cropped: CroppedForward | None = None,
) -> ProjectionBatch:
    """One forward pass whose values autograd keeps, and its backward pass; each of x has its activation."""
    each = torch.arange(len(x), device=x.device)
    # A fresh leaf: the caller's tensor is neither changed nor given a gradient, and inference mode does not matter.
    with torch.inference_mode(False), torch.enable_grad():
        pixels = (x.clone() if cropped is None else cropped.crop_input(x)).requires_grad_()
        try:
            if cropped is None:
                captured: list[Tensor] = []
                network.capture(pixels, [layer], lambda _, maps: captured.append(maps), rules)
                maps: Tensor | None = captured[0]
            else:
                maps = network.capture_partial(pixels.clone(), layer, cropped, rules)
            if maps is None:
                raise TraceMismatch
            if positions is None:
                positions = strongest_position(maps.detach(), units)
            place = positions.unbind(dim=1) if cropped is None else (each * 0, each * 0)
            chosen = each, units, *place
            values = maps.detach()[chosen]
            projections = _send_down(network, layer, maps, pixels, chosen, values, start) if maps.requires_grad else None
        except RuntimeError as error:
            if reason := _explain_autograd_error(error):
                raise DeconvnetError(f"There is no way down from {layer} of {network.name}: {reason}.") from error
            raise
    if projections is None:
        raise DeconvnetError(
            f"There is no way down from {layer} of {network.name}: its forward pass cuts it off, by torch.no_grad, detach "
            "or a custom autograd function."
        )
    corners = torch.zeros(len(x), 2, dtype=torch.int64) if cropped is None else cropped.corners
    return ProjectionBatch(projections, corners, (x.shape[2], x.shape[3]), values, *positions.unbind(dim=1))


def _send_down(
    network: Network, layer: str, maps: Tensor, pixels: Tensor, chosen: Any, values: Tensor, start: Start
) -> Tensor | None:
    """The gradient of `maps[chosen]` times the starting signal with respect to `pixels`; None if there is none."""
    signal = empty_maps(maps.shape, maps).zero_()
    signal[chosen] = values if start == "activation" else (values > 0).to(maps.dtype)
    with exact_float32():
        projections = torch.autograd.grad(_Start.apply(maps, signal), pixels, allow_unused=True)[0]
    if projections is not None and projections.numel() and not torch.stack(projections.aminmax()).isfinite().all():
        raise DeconvnetError(
            f"Projections of {layer} of {network.full_name} are not finite: {network.reason_for_non_finite}."
        )
    return projections


class _Start(torch.autograd.Function):
    """A number of which the gradient with respect to `maps` is `signal`.

    Passed to `grad` as its third argument, the signal would make torch import its symbolic shapes, which takes seconds. And
    the sum of maps · signal may overflow in float16.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, signal: Tensor) -> Tensor:
        ctx.save_for_backward(signal)
        return signal.new_zeros(())

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor, None]:
        (signal,) = ctx.saved_tensors
        return signal, None


def _explain_autograd_error(error: RuntimeError) -> str:
    """Why a module's backward pass failed and what to do about it; empty if the error is of no known kind."""
    if "inplace operation" in str(error) or "modified inplace" in str(error):
        return "it changes in place what is needed on the way down, so write x = x + y for x += y"
    if isinstance(error, CheckpointError):
        return "it computes parts again on the way down, so switch its activation checkpointing off"
    return ""


def _check_arguments(
    network: Network,
    x: Tensor,
    layer: str,
    units: Tensor,
    positions: Tensor | None,
    photos: Tensor,
    values: Tensor | None,
    start: str,
) -> None:
    unit_count, count = network.layer(layer).units, len(photos)
    network.check_input(x)
    if len(units) != count or (positions is not None and tuple(positions.shape) != (count, 2)):
        shape = None if positions is None else tuple(positions.shape)
        raise UsageError(
            f"{count} inputs need as many units, and positions of shape ({count}, 2), not {len(units)} units and {shape}."
        )
    if values is not None and len(values) != count:
        raise UsageError(f"{count} activations have as many values, not {len(values)}.")
    if count and not 0 <= int(photos.min()) <= int(photos.max()) < len(x):
        raise UsageError(f"There are {len(x)} inputs, so their rows are 0–{len(x) - 1}, not {photos.tolist()}.")
    unknown = [unit for unit in units.tolist() if unit not in range(unit_count)]
    if unknown:
        raise UsageError(f"{layer} of {network.name} has no unit {unknown[0]}: its units are 0–{unit_count - 1}.")
    if positions is not None:
        check_positions(network.layer(layer), positions.tolist())
    if start not in ("activation", "one"):
        raise UsageError(f'start is "activation" or "one", not {start!r}.')


def check_positions(layer: Layer, positions: Sequence[Sequence[int]]) -> None:
    """Raise `UsageError` for a position that the layer's feature maps do not have."""
    rows, columns = layer.map_size
    if any(row not in range(rows) or column not in range(columns) for row, column in positions):
        raise UsageError(
            f"The feature maps of {layer.name} are {rows}×{columns}: a position is 0–{rows - 1},0–{columns - 1}."
        )
