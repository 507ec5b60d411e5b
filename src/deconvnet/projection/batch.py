"""Project a batch of activations down to pixel space (section 2.1): by switches alone, or by autograd."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.models import Network
from deconvnet.projection.by_autograd import project_by_autograd
from deconvnet.projection.by_switches import is_verified, project_by_switches
from deconvnet.projection.projection_batch import ProjectionBatch, strongest_position
from deconvnet.projection.rules import DECONVNET, rule_set
from deconvnet.projection.way_down import check_way_down
from deconvnet.tracing import CroppedForward, Layer, Rules

Start = Literal["activation", "one"]

#: Cost of a cropped pass, as a fraction of a full pass's multiplications, below which the crop is used.
CROP_COST_THRESHOLD = 0.7

#: Activations on crops must be those on whole images to this fraction of the largest of them, or 16 eps of the dtype.
_VALUE_TOLERANCE = 1e-3


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
    rules, from_one = rule_set(rules), start == "one"
    check_way_down(network, layer, rules)
    x, units = x.detach().to(network.device, network.dtype), units.to(network.device)
    positions = None if positions is None else positions.to(network.device)
    values = None if values is None or positions is None else values.detach().to(network.device, network.dtype)
    switch_plan, crop_plan = network.switch_plan(layer), network.crop_plan(layer)
    if crop_plan is not None and (not allow_cropping or crop_plan.cost >= CROP_COST_THRESHOLD):
        crop_plan = None
    if switch_plan is not None and rules == DECONVNET and is_verified(network, layer):
        try:
            return project_by_switches(network, switch_plan, crop_plan, x, photos, layer, units, positions, values, from_one)
        except torch.OutOfMemoryError:
            raise  # the other ways need more memory still
        except Exception:  # a module can raise anything
            pass
    x = x if len(x) == len(photos) and torch.equal(photos, torch.arange(len(x))) else x[photos.to(x.device)]
    # A pooling rule may depend on windows outside the crop: with "overwrite" they write their zeros.
    if crop_plan is not None and rules.pool is None:
        if positions is None:
            maps = network.activations(x, layer)
            positions = strongest_position(maps, units)
            values = maps[torch.arange(len(x), device=x.device), units, *positions.unbind(dim=1)]
        try:
            cropped = CroppedForward(crop_plan, positions)
            batch = project_by_autograd(network, x, layer, units, positions, from_one, rules, cropped)
        except torch.OutOfMemoryError:
            raise  # full images need more memory still
        except Exception:  # whatever a module does with crops, its behaviour on full images decides
            batch = None
        if batch is not None and (values is None or _are_close(batch.values, values)):
            return batch
        if batch is not None:
            network.warn_once(
                "crops",
                f"{layer} of {network.full_name} has other activations on a crop to its receptive field than on the whole "
                "image, so whole images are computed.",
            )
    batch = project_by_autograd(network, x, layer, units, positions, from_one, rules)
    if len(x) and layer not in network.layers_with_equal_values:
        maps = network.activations(x[:1], layer).view(network.layer(layer).units, *network.layer(layer).map_size)
        if not _are_close(batch.values[:1], maps[units[0], batch.rows[0], batch.columns[0]][None]):
            raise DeconvnetError(
                f"{layer} of {network.full_name} has other activations where gradients are computed than elsewhere, so its "
                "projections would be of other maps: let the module do the same in both."
            )
        network.layers_with_equal_values.add(layer)
    return batch


def _are_close(values: Tensor, expected: Tensor) -> bool:
    """Whether activations (N,) are the expected ones but for rounding, if these are finite."""
    if not expected.isfinite().all():
        return True
    tolerance = max(_VALUE_TOLERANCE, 16 * torch.finfo(values.dtype).eps) * float(expected.abs().max())
    return torch.allclose(values, expected.to(values.dtype), rtol=0, atol=tolerance)


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
