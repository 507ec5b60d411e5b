"""Check a network: is it refused, and are projections and incremental passes what plain computations give?"""

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from deconvnet.checking.result import Finding, LayerCheck, NetworkCheck
from deconvnet.checking.second_projection import SecondProjection, plain_copy
from deconvnet.errors import DeconvnetError, DeconvnetWarning, UsageError
from deconvnet.models import Network, activation_cache, forward_patched
from deconvnet.models.rounding_error import probe_image
from deconvnet.progress import progress_bar
from deconvnet.projection import project_batch
from deconvnet.projection.batch import CROP_COST_THRESHOLD
from deconvnet.tracing import Layer

#: The types in which a network is checked, the first in which it runs; and the fraction of their size by which two results
#: may differ: rounding, and in float32 the few switches and ReLUs that it turns.
_TOLERANCES = {torch.float64: 1e-8, torch.float32: 1e-2}

#: The side of the patches that are pasted into an image: a sixth of the image's.
_PATCHES_PER_SIDE = 6


def check(network: Network, layers: Sequence[str] | None = None, *, places: int = 4, progress: bool = False) -> NetworkCheck:
    """Compare what is made of a network with plain computations, in float64 on the CPU.

    The self-checks that every network passes come first; what they refuse or warn of is in the result. Then, for an image of
    noise, up to `places` activations of each of `layers` (default: all) are projected, and compared with a second
    implementation (section 2.1): the strongest one, those nearest to two corners of the maps, and others. The output for the
    image with a patch pasted in, as occlusion maps are made from, is compared with that of a whole pass. A module that does
    not run in float64 is checked in float32, where a few switches may differ by rounding.

    Raises `UsageError` for layers that the network does not have.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = _check(network, layers, places, progress)
    told = dict.fromkeys(str(warning.message) for warning in caught if issubclass(warning.category, DeconvnetWarning))
    return NetworkCheck(**{**vars(result), "warnings": tuple(told)})


def _check(network: Network, layers: Sequence[str] | None, places: int, progress: bool) -> NetworkCheck:
    try:
        names = [network.layer(name).name for name in layers or network.layers]
    except UsageError:
        raise
    except DeconvnetError as error:
        return NetworkCheck(network.full_name, refusal=str(error))
    reason = ""
    for dtype in _TOLERANCES:
        try:
            exact = _with_module(network, plain_copy(network.module, dtype))
            x = probe_image(exact).to(dtype)
            second = SecondProjection(exact.module, x)
            checks = []
            with progress_bar(f"Checking {network.name}", len(names), progress) as advance:
                for name in names:
                    checks.append(_check_layer(exact, second, x, name, places))
                    advance(1, name)
            findings = tuple(_check_patched(exact, x, names[len(names) // 2]))
        except Exception as error:  # a module can raise anything
            reason = reason or f"{type(error).__name__}: {next(iter(str(error).splitlines()), '').rstrip('.')}"
        else:
            return NetworkCheck(network.full_name, dtype=str(dtype).removeprefix("torch."), layers=checks, findings=findings)
    return NetworkCheck(network.full_name, findings=(f"no copy of it could be compared ({reason})",))


def _with_module(network: Network, module: nn.Module) -> Network:
    """The network around another module, about which nothing has been found out yet."""
    return Network(
        module,
        **network.input_space.arguments,
        name=network.name,
        weights=network.weights,
        layer_names=list(network.layers),
        classes=network.classes,
        classifies=network.classifies,
    )


def _check_layer(network: Network, second: SecondProjection, x: Tensor, name: str, places: int) -> LayerCheck:
    layer = network.layer(name)

    about = name, layer.units, layer.map_size, str(layer.field)

    captured = network.activations(x, name)
    chosen = _choose(captured.view(layer.units, *layer.map_size), places)
    if not chosen:
        return LayerCheck(*about, "no signal", reason="no activation is above zero")
    units, positions = torch.tensor([unit for unit, _, _ in chosen]), torch.tensor([place[1:] for place in chosen])
    try:
        got = project_batch(network, x, name, units, positions, photos=torch.zeros_like(units)).pixels
    except DeconvnetError as error:
        return LayerCheck(*about, "refused", reason=str(error))
    relu = second.find(captured)
    if relu is None:
        return LayerCheck(*about, "wrong", reason="its maps are those of no ReLU in a plain forward pass")
    want = torch.stack([second.project(relu, *place) for place in chosen])
    difference = max(map(_difference, got, want))
    announced, passed = network.trace.functions_without_rule(layer.index), second.without_rule(relu)
    custom = [name for name in passed if name.endswith("()")]  # of which a warning has told, not the trace
    finding: Finding = "wrong"
    if difference > _TOLERANCES[x.dtype]:
        reason = "projections differ from the second implementation's"
    elif any(_is_beyond(projection, layer, *place[1:]) for projection, place in zip(want, chosen, strict=True)):
        reason = "projections extend beyond the receptive field"
    elif len(passed) > len(custom) and not announced:
        reason = f"the way down passes {', '.join(passed)} without a warning"
    elif announced or custom:
        finding, reason = "approximated", ", ".join([*announced, *custom])
    elif not want.any():
        finding, reason = "no signal", "nothing arrives at the pixels"
    else:
        finding, reason = "exact", ""
    return LayerCheck(*about, finding, _way(network, name), len(chosen), difference, reason)


def _choose(maps: Tensor, count: int) -> list[tuple[int, int, int]]:
    """Up to `count` activations above zero, as unit, row and column: the strongest one, those nearest to the upper left and
    the lower right corner, the others anywhere.
    """
    active = maps.nonzero()
    if not len(active):
        return []
    strongest = torch.stack(torch.unravel_index(maps.argmax(), maps.shape))
    corners = active[:, 1] + active[:, 2]
    anywhere = active[torch.randint(len(active), (8 * count,), generator=torch.Generator().manual_seed(0))]
    places = torch.cat([strongest[None], active[[int(corners.argmin()), int(corners.argmax())]], anywhere])
    return list(dict.fromkeys((unit, row, column) for unit, row, column in places.tolist()))[:count]


def _difference(got: Tensor, want: Tensor) -> float:
    """The distance of two tensors as a fraction of the size of the second; infinite if only that is zero."""
    size, distance = float(want.norm()), float((got - want).norm())
    return distance / size if size else math.inf if distance else 0.0


def _is_beyond(projection: Tensor, layer: Layer, row: int, column: int) -> bool:
    """Has a projection pixels that differ from zero outside of the activation's receptive field?"""
    left, top, right, bottom = layer.field.clipped_box(row, column)
    outside = projection.clone()
    outside[:, top:bottom, left:right] = 0
    return bool(outside.any())


def _way(network: Network, name: str) -> str:
    """How activations of a layer have been projected."""
    plan = network.crop_plan(name)
    way = "switches" if network.verified_switch_plans.get(name) else "autograd"
    return f"{way}, crops" if plan is not None and plan.cost < CROP_COST_THRESHOLD else way


def _check_patched(network: Network, x: Tensor, name: str) -> Iterator[str]:
    """In words, where the incremental forward of images with a patch differs from whole passes of the module."""
    cache = activation_cache(network, x)
    if cache is None:  # whole passes are all there is
        return
    height, width = (max(1, size // _PATCHES_PER_SIDE) for size in x.shape[2:])
    patches = x.new_zeros(3, x.shape[1], height, width)
    bottom, right = x.shape[2] - height, x.shape[3] - width
    corners = torch.tensor([[0, 0], [bottom // 2, right // 2], [bottom, right]])
    images = x.repeat(len(corners), 1, 1, 1)
    for image, (top, left) in zip(images, corners.tolist(), strict=True):
        image[:, top : top + height, left : left + width] = 0
    unit = int(network.activations(x, name)[0].flatten(1).amax(dim=1).argmax())
    output, maps = forward_patched(network, x, cache, patches, corners, name, unit)
    with torch.no_grad():
        whole = _tensors(network.module(images.clone()))
    differences = [_difference(maps, network.activations(images, name)[:, unit].view_as(maps))]
    for got in _tensors(output):
        differences += [min(_difference(got, want) for want in whole if want.shape == got.shape)]
    if max(differences) > _TOLERANCES[x.dtype]:
        yield "incremental passes over images with a patch pasted in differ from whole ones, so occlusion maps are wrong"


def _tensors(output: Any) -> list[Tensor]:
    """The tensors in what a module returns."""
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
