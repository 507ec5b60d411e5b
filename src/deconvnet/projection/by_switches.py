"""Projections by the paper's rules, which read nothing of the photos but switches.

Activations in one photo share its forward pass. Those of one unit at one position share the way down to the highest max
pooling, if all signals pass its output.
"""

from typing import Literal

import torch
from torch import Tensor

from deconvnet.models import Network
from deconvnet.models.rounding_error import probe_image
from deconvnet.projection.by_autograd import check_finite, project_by_autograd, send_down, signal_from, starting_signals
from deconvnet.projection.projection_batch import ProjectionBatch, strongest_position
from deconvnet.projection.rules import DECONVNET
from deconvnet.tracing import (
    CroppedForward,
    CropPlan,
    SwitchedPass,
    SwitchPlan,
    SwitchRecorder,
    TraceMismatch,
    crop_switches,
    custom_functions,
    placeholder,
)

#: Projections by switches must be those by autograd to this relative difference, or 16 eps of the dtype, for a probe image.
_PROBE_TOLERANCE = 1e-3


def project_by_switches(
    network: Network,
    plan: SwitchPlan,
    crop_plan: CropPlan | None,
    x: Tensor,
    photos: Tensor,
    layer: str,
    units: Tensor,
    positions: Tensor | None,
    values: Tensor | None,
    from_one: bool,
) -> ProjectionBatch:
    """Project activations as `project_batch` does; on crops where there is a `crop_plan`.

    Raises `TraceMismatch`, or whatever the module raises, if the module does not run as its trace says.
    """
    with torch.inference_mode(False):  # autograd cannot save tensors of inference mode
        switches, positions, values = _record(network, plan, crop_plan, x, photos, layer, units, positions, values)
        # A ReLU's output is not negative; what is given as one would be a factor, where it starts from zero.
        signals = starting_signals(values, from_one).clamp(min=0)
        places = torch.column_stack([units, positions]).cpu()
        arguments = network, plan, crop_plan, x, layer
        if plan.shares_top:
            # What activations of one unit at one position send down differs by a factor from that of the largest of them.
            tops, top = torch.unique(places, dim=0, return_inverse=True)
            top = top.to(x.device)
            largest = signals.new_zeros(len(tops)).scatter_reduce_(0, top, signals, "amax")
            factors = torch.where(largest[top] == 0, 0, signals / largest[top])
            shared = _from_layer(*arguments, tops, largest, {}, "above")
            crops = shared[top] * factors.view(-1, 1, 1, 1)
            if plan.poolings:
                crops = _down(*_run(*arguments, places[:, 1:], switches, "below"), crops)
        else:
            crops = _from_layer(*arguments, places, signals, switches, "whole")
    check_finite(network, layer, crops)
    corners = torch.zeros(len(photos), 2, dtype=torch.int64)
    if crop_plan is not None:
        corners = crop_plan.regions[0].corners(places[:, 1:])
    return ProjectionBatch(crops, corners, (x.shape[2], x.shape[3]), values, *positions.unbind(dim=1))


def _record(
    network: Network,
    plan: SwitchPlan,
    crop_plan: CropPlan | None,
    x: Tensor,
    photos: Tensor,
    layer: str,
    units: Tensor,
    positions: Tensor | None,
    values: Tensor | None,
) -> tuple[dict[int, Tensor], Tensor, Tensor]:
    """The switches of each activation by index of the pooling, in its crop if there is a `crop_plan`; the activations'
    positions and values.

    The forward pass is over crops where that costs less than the photos. None is needed for known values of a layer without
    a pooling below it.
    """
    to_layer, on_crops = values is None, False
    switches: dict[int, Tensor] = {}
    if to_layer or plan.poolings:
        if crop_plan is not None and positions is not None:
            below = plan.multiplications_below_on_crop / max(plan.multiplications_below, 1)
            on_crops = len(photos) * (crop_plan.cost if to_layer else below) < len(x)
        cropped = CroppedForward(crop_plan, positions) if on_crops else None  # type: ignore[arg-type]
        recorder = SwitchRecorder(plan, to_layer, cropped)
        inputs = network.module_input(x) if cropped is None else cropped.crop_input(x, photos)
        with torch.no_grad():
            maps = network.capture_partial(inputs, layer, recorder)
        if maps is not None:
            rows = torch.arange(len(photos), device=x.device) if on_crops else photos.to(x.device)
            if positions is None:
                positions = strongest_position(maps[rows], units)
            values = maps[rows, units, 0, 0] if on_crops else maps[rows, units, *positions.unbind(dim=1)]
        switches = recorder.switches
    if values is None or positions is None:
        raise TraceMismatch
    if crop_plan is None:
        switches = {index: whole[photos.to(x.device)] for index, whole in switches.items()}
    elif not on_crops:
        switches = crop_switches(plan, switches, photos, positions.cpu())
    return switches, positions, values


def _from_layer(
    network: Network,
    plan: SwitchPlan,
    crop_plan: CropPlan | None,
    x: Tensor,
    layer: str,
    places: Tensor,
    signals: Tensor,
    switches: dict[int, Tensor],
    part: Literal["whole", "above"],
) -> Tensor:
    """What `signals` (N,) of activations of the layer are at the end of that part of the way down.

    `places` (N, 3) are their units, rows and columns, on the CPU.
    """
    maps, source = _run(network, plan, crop_plan, x, layer, places[:, 1:], switches, part)
    units, rows, columns = places.to(x.device).unbind(dim=1)
    if crop_plan is not None:  # the cropped maps of the layer have a single position each
        rows, columns = rows * 0, columns * 0
    chosen = torch.arange(len(units), device=x.device), units, rows, columns
    return _down(maps, source, signal_from(maps, chosen, signals))


def _run(
    network: Network,
    plan: SwitchPlan,
    crop_plan: CropPlan | None,
    x: Tensor,
    layer: str,
    positions: Tensor,
    switches: dict[int, Tensor],
    part: Literal["whole", "above", "below"],
) -> tuple[Tensor, Tensor]:
    """Run the module on placeholders: where that part of the way down starts, and where it ends."""
    cropped = None if crop_plan is None else CroppedForward(crop_plan, positions, shapes_only=True)
    size = x.shape[2:] if cropped is None else cropped.input_size
    pixels = placeholder(x, (len(positions), x.shape[1], *size)).requires_grad_()
    switched = SwitchedPass(plan, switches, cropped, part)
    with torch.enable_grad():
        maps = network.capture_partial(pixels, layer, switched)
    start = switched.boundary if part == "below" else maps
    end = switched.boundary if part == "above" and plan.poolings else pixels
    if start is None or end is None or custom_functions(start):
        raise TraceMismatch
    return start, end


def _down(start: Tensor, end: Tensor, signal: Tensor) -> Tensor:
    arrived = send_down(start, signal, end)
    if arrived is None:
        raise TraceMismatch
    return arrived


def is_verified(network: Network, layer: str) -> bool:
    """Whether projections of the layer by switches are those by autograd, as tried once on a probe image.

    A module can do what its trace does not show, such as a scripted gate, which makes another value of a placeholder. A
    layer that was found right vouches for those through which all its signals pass.
    """
    verified, plan = network.verified_switch_plans, network.switch_plan(layer)
    if layer not in verified:
        right = [network.switch_plan(name) for name, is_right in verified.items() if is_right]
        vouched = plan is not None and any(higher is not None and higher.includes(plan) for higher in right)
        verified[layer] = vouched or _verify(network, layer)
    return verified[layer]


def _verify(network: Network, layer: str) -> bool:
    """Compare projections of the two most active units for a probe image. False if they are all zero, which says nothing.

    Those by autograd start from one: that a projection is proportional to its activation is also found out.
    """
    plan, photos = network.switch_plan(layer), torch.zeros(2, dtype=torch.int64)
    assert plan is not None
    x = probe_image(network).to(network.device, network.dtype)
    try:
        maxima = network.activations(x, layer)[0].reshape(network.layer(layer).units, -1).amax(dim=1)
        units = maxima.argsort(descending=True)[:2].expand(2)
        one = project_by_autograd(network, x[photos], layer, units, None, True, DECONVNET)
        positions = torch.stack([one.rows, one.columns], dim=1)
        got = project_by_switches(network, plan, None, x, photos, layer, units, positions, None, False)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # a module can raise anything
        return False
    expected = one.crops.float() * got.values.float().view(-1, 1, 1, 1)
    tolerance = max(_PROBE_TOLERANCE, 16 * torch.finfo(network.dtype).eps)
    apart, norm = (got.crops.float() - expected).norm(), expected.norm()
    has_same_values = torch.allclose(one.values, got.values, rtol=tolerance, atol=0)
    return has_same_values and bool(norm > 0) and bool(apart <= tolerance * norm)
