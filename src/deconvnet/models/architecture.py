"""What is known of one kind of network before any weights are."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from deconvnet.data.transforms import Preprocessing
from deconvnet.models.weights import State


def _unchanged(state: State) -> State:
    return state


@dataclass(frozen=True)
class Architecture:
    """One kind of network."""

    summary: str
    options: Any
    """The options it has by default, a dataclass with at least `classes`."""
    build: Callable[[Any], nn.Module]
    preprocessing: Preprocessing
    """What it takes while it is untrained."""
    classifier: str
    """Prefix of the names of the fully connected layers' tensors."""
    last: str
    """The tensor whose first dimension is the number of classes."""
    paper_names: bool = False
    """Its layers are conv1, conv2 … fc7 of the paper, but its module, which is none of ours, does not say so."""
    adapt: Callable[[State], State] = _unchanged
    """Makes the tensors of files by others those that the module has."""
    stated: tuple[str, ...] = ()
    """Options that a description has to state: files come with either, and nothing in them tells which."""

    @property
    def crop(self) -> int:
        """Rows and columns of the input."""
        return self.preprocessing.crop


@contextmanager
def without_weights() -> Iterator[None]:
    """Modules that are built here are on the meta device: their weights have shapes, but take neither memory nor time."""
    with torch.device("meta"), _NoDraws():
        yield


def build_empty(build: Callable[[Any], nn.Module], options: Any) -> nn.Module:
    """A module on the meta device, for weights that are replaced at once, or never needed."""
    try:
        with without_weights():
            return build(options)
    except NotImplementedError:  # torchvision's RegNets compute their widths with tensors
        with torch.random.fork_rng(devices=[]):
            return build(options).to("meta")


class _NoDraws(TorchFunctionMode):
    """Weights are not drawn: on the meta device there is nothing to draw, but it would import torch's compiler (seconds)."""

    _DRAWS: frozenset[Any] = frozenset([Tensor.normal_, Tensor.uniform_])

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func in self._DRAWS or getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))
