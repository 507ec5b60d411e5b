"""`Architecture`: what is known about a network apart from its weights; and modules built without weights."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from deconvnet.data.transforms import Preprocessing
from deconvnet.models.weights import StateDict


@dataclass(frozen=True)
class ModelOptions:
    """The only option of most models of a library."""

    classes: int = 1000
    """Size of the last layer; 0 leaves out the classifier: a trunk, without class scores."""


@dataclass(frozen=True)
class Architecture:
    """A network without weights."""

    summary: str
    options: Any
    """The default options, a dataclass with at least `classes`."""
    build: Callable[[Any], nn.Module]
    """Makes the module, of options."""
    preprocessing: Preprocessing
    """Of an untrained network."""
    classifier_prefix: str
    """Prefix of the names of the fully connected layers' tensors."""
    last_weight: str
    """Name of the tensor whose first dimension is the number of classes."""
    paper_layer_names: bool = False
    """Are the layers the paper's conv1 … fc7, although the module, which is not ours, does not name them so?"""
    adapt_state: Callable[[StateDict], StateDict] = lambda state: state
    """Turns the tensors of files by others into those of the module."""
    required_options: tuple[str, ...] = ()
    """Options that metadata must state: files with either value exist, and their tensors do not tell which."""
    describe_file: Callable[[Path, int], Mapping[str, Any] | None] = lambda file, classes: None
    """Entries of `weights_metadata` for a file of so many classes that has none itself; None where its user has to describe
    it."""


@contextmanager
def without_weights() -> Iterator[None]:
    """Modules built within are on the meta device: their weights have shapes, but take neither memory nor time."""
    with torch.device("meta"), _NoInitialisation():
        yield


def build_empty(build: Callable[[Any], nn.Module], options: Any) -> nn.Module:
    """A module on the meta device, for weights that are replaced at once or not needed."""
    try:
        with without_weights():
            return build(options)
    except NotImplementedError:  # torchvision's RegNets compute their widths with tensors
        with torch.random.fork_rng(devices=[]):
            return build(options).to("meta")


class _NoInitialisation(TorchFunctionMode):
    """Skips the drawing of weights, which does nothing on the meta device but would import torch's compiler (seconds)."""

    _DRAWS: frozenset[Any] = frozenset([Tensor.normal_, Tensor.uniform_])

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func in self._DRAWS or getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))
