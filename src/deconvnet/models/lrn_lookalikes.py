"""Local response normalisation that others have written as a module of their own, recognised by what it computes.

Before PyTorch had `nn.LocalResponseNorm`, collections of models spelt it by poolings and powers, or by an autograd function
(`nn.CrossMapLRN2d`, whose sums keep the first map for too long). The paper's rule is for what they compute, however it is
spelt.
"""

import copy
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvnet.local_response_norm import LocalResponseNorm, LRNConstants, normalise_by

#: Maps of the probes; a sum over more than half of them is taken for one over all.
_MAPS = 32


class Lookalike(nn.Module):
    """A module that computes local response normalisation, as a call that traces and projections know for one."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        return normalise_by(x, self.module)


def wrap_lookalikes(module: nn.Module) -> tuple[nn.Module, list[str]]:
    """The module with a `Lookalike` around each submodule that computes local response normalisation, and their paths.

    The module itself is not changed: where there is one, the result is a copy that shares all other submodules, parameters
    and buffers with it.
    """
    found: list[str] = []
    return _wrap(module, "", found), found


def _wrap(module: nn.Module, path: str, found: list[str]) -> nn.Module:
    if isinstance(module, Lookalike):
        return module
    if _may_be_one(module) and (isinstance(module, nn.CrossMapLRN2d) or lrn_constants(module) is not None):
        found.append(path)
        return Lookalike(module)
    children = {
        name: None if child is None else _wrap(child, f"{path}.{name}".lstrip("."), found)
        for name, child in module._modules.items()
    }
    if all(child is module._modules[name] for name, child in children.items()):
        return module
    changed = copy.copy(module)  # with the same dictionaries of parameters and buffers
    changed._modules = children
    return changed


def _may_be_one(module: nn.Module) -> bool:
    is_torchs = type(module).__module__.startswith("torch.") and not isinstance(module, nn.CrossMapLRN2d)
    is_ours = any(isinstance(each, LocalResponseNorm | nn.LocalResponseNorm) for each in module.modules())
    has_state = any(True for _ in _tensors_and_hooks(module))
    return not (is_torchs or is_ours or has_state)


def _tensors_and_hooks(module: nn.Module) -> Iterator[object]:
    yield from module.parameters()
    yield from module.buffers()
    for submodule in module.modules():
        yield from (*submodule._forward_hooks.values(), *submodule._forward_pre_hooks.values())


def lrn_constants(module: nn.Module) -> LRNConstants | None:
    """The constants with which the module computes local response normalisation; None if it computes something else.

    They are read from its responses to single values: b = a / (k + alpha/n · a²)^beta, of which k^−beta remains for a small
    a and a power of a for a large one. Then it is compared with the definition.
    """
    try:
        module = copy.deepcopy(module).eval()  # which may keep something of its inputs
        with torch.no_grad():
            constants = _fit(module)
            generator = torch.Generator().manual_seed(0)
            for scale, size in ((1.0, (3, 3)), (1e3, (3, 3)), (1.0, (11, 7))):
                x = scale * torch.randn(2, _MAPS, *size, generator=generator, dtype=torch.float64)
                expected = F.local_response_norm(x, constants.n, constants.alpha, constants.beta, constants.k)
                if not torch.allclose(module(x), expected, rtol=1e-5, atol=0):
                    return None
        with torch.inference_mode(False), torch.enable_grad():
            x = torch.ones(1, _MAPS, 3, 3, dtype=torch.float64, requires_grad=True)
            if not torch.autograd.grad(module(x).sum(), x)[0].all():  # it is cut off
                return None
    except Exception:  # a module can raise anything
        return None
    return constants


def _fit(module: nn.Module) -> LRNConstants:
    """Constants for which the module may be local response normalisation. Raises `ArithmeticError` where it is not."""
    middle = _MAPS // 2

    def response(value: float) -> float:
        """B / a of a single value, with zeros around it."""
        x = torch.zeros(1, _MAPS, 3, 3, dtype=torch.float64)
        x[0, middle, 1, 1] = value
        return float(module(x)[0, middle, 1, 1]) / value

    small, large, larger = (response(value) for value in (1e-6, 1e8, 1e9))
    beta = -math.log(larger / large) / (2 * math.log(10))
    per_map, k = larger ** (-1 / beta) / 1e18, small ** (-1 / beta)
    size = _count_maps_in_sum(module)
    if not (0 < size <= middle and math.isfinite(k) and per_map > 1e-12):
        raise ArithmeticError
    return LRNConstants(size, *(float(f"{value:.7g}") for value in (per_map * size, beta, k)))


def _count_maps_in_sum(module: nn.Module) -> int:
    """Of how many maps the one in the middle depends on the values."""
    x = torch.zeros(_MAPS, _MAPS, 3, 3, dtype=torch.float64)
    x[torch.arange(_MAPS), torch.arange(_MAPS), 1, 1] = 1e8
    x[:, _MAPS // 2, 1, 1] += 1e-3
    alone = torch.zeros(1, _MAPS, 3, 3, dtype=torch.float64)
    alone[0, _MAPS // 2, 1, 1] = 1e-3
    values = module(x)[:, _MAPS // 2, 1, 1]
    values[_MAPS // 2] = 0  # on itself
    return int((values < 0.5 * module(alone)[0, _MAPS // 2, 1, 1]).sum())
