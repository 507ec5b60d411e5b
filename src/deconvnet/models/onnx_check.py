"""What a network computes, step by step, so that two accounts of it can be compared: a module's and a file's.

Where windows stand is compared, not how their padding is spelt: "ceil mode" and a row of padding at the far side are the
same if they make the same windows on maps of this size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import isclose

from torch import fx, nn

from deconvnet.errors import DeconvnetError
from deconvnet.local_response_norm import LocalResponseNorm, LRNConstants

Pair = tuple[int, int]

CONVOLUTION = "convolution"
CONNECTION = "full connection"
RELU = "ReLU"
CONTRAST = "contrast normalisation"
POOLING = "max pooling"
FLATTENING = "flattening"


@dataclass(frozen=True)
class Window:
    """How a window slides over a map; pairs are (rows, columns)."""

    kernel: Pair
    stride: Pair
    dilation: Pair = (1, 1)
    before: Pair = (0, 0)
    """Padding above and to the left; zeros for a convolution, nothing at all for a pooling."""
    after: Pair = (0, 0)
    """Padding below and to the right."""
    ceil: bool = False
    """May the last window hang over the edge?"""
    same: str = ""
    """"SAME_UPPER" or "SAME_LOWER": pad as much as one window per stride needs, an odd pixel after or before."""

    def placed(self, size: Pair) -> tuple[Pair, Pair]:
        """Where windows stand on a map of `size`: the padding before the first, and how many there are."""
        axes = [self._placed(axis, length) for axis, length in enumerate(size)]
        return (axes[0][0], axes[1][0]), (axes[0][1], axes[1][1])

    def _placed(self, axis: int, length: int) -> Pair:
        before, after, stride = self.before[axis], self.after[axis], self.stride[axis]
        reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        if self.same:
            count = -(-length // stride)
            padding = max((count - 1) * stride + reach - length, 0)
            return (padding + 1) // 2 if self.same == "SAME_LOWER" else padding // 2, count
        room = length + before + after - reach
        count = (-(-room // stride) if self.ceil else room // stride) + 1
        if self.ceil and (count - 1) * stride >= length + before:
            count -= 1  # torch and ONNX: no window begins beyond the map
        return before, count


@dataclass(frozen=True)
class Step:
    """One operation of a network."""

    kind: str
    """One of the above, or what the file calls an operation that no network of ours has."""
    layer: str
    """The layer with weights that it is, or that it follows."""
    window: Window | None = None
    groups: int = 1
    contrast: LRNConstants | None = None
    maps_before: int = 0
    """Of a contrast normalisation: how many of its maps come before the one that is normalised."""

    def __str__(self) -> str:
        if self.kind in (CONVOLUTION, CONNECTION):
            return f"the {self.kind} {self.layer}"
        return f"the {self.kind} after {self.layer}" if self.layer else f"a {self.kind} at the start"


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LocalResponseNorm) or super().is_leaf_module(m, module_qualified_name)


def module_steps(module: nn.Module) -> list[Step]:
    """The steps of a module of this project, in the order in which they run; what training alone does is left out."""
    steps: list[Step] = []
    layer = ""
    for node in _Tracer().trace(module).nodes:
        part = module.get_submodule(node.target) if node.op == "call_module" else None
        match part:
            case nn.Conv2d():
                layer = node.target
                window = Window(part.kernel_size, part.stride, part.dilation, part.padding, part.padding)  # type: ignore[arg-type]
                steps.append(Step(CONVOLUTION, layer, window, part.groups))
            case nn.Linear():
                layer = node.target
                steps.append(Step(CONNECTION, layer))
            case nn.ReLU():
                steps.append(Step(RELU, layer))
            case nn.MaxPool2d(kernel_size=int(k), stride=int(s), padding=int(p), ceil_mode=ceil):
                steps.append(Step(POOLING, layer, Window((k, k), (s, s), (1, 1), (p, p), (p, p), ceil)))
            case nn.Dropout():
                pass
            case None if node.target == "flatten":
                steps.append(Step(FLATTENING, layer))
            case LocalResponseNorm():
                steps.append(Step(CONTRAST, layer, contrast=part.constants, maps_before=part.constants.n // 2))
            case None if node.op in ("placeholder", "output"):
                pass
            case _:
                raise AssertionError(f"{node.op} {node.target} is no step that is known")
    return steps


def check_same(theirs: Sequence[Step], ours: Sequence[Step], size: Pair, source: str, network: str) -> None:
    """Compare a file's steps with a network's on pixels of `size` (rows, columns).

    Raises `DeconvnetError` that names the first difference.
    """
    before = "the beginning"
    for their, own in zip_longest(theirs, ours):
        if own is None:
            raise DeconvnetError(f"{source} goes on with {their} where {network} ends, after {before}.")
        if their is None:
            raise DeconvnetError(f"{source} ends after {before}, where {network} goes on with {own}.")
        if their.kind != own.kind:
            raise DeconvnetError(f"{source} has {their} where {network} has {own}.")
        for what, found, wanted in _numbers(their, own, size):
            if found != wanted:
                raise DeconvnetError(
                    f"{source} has {own} with {what} {_text(found)}, but {network} has it with {_text(wanted)} (some of "
                    "these can be changed under [options] of --preprocessing FILE.toml)."
                )
        if own.window:
            size = own.window.placed(size)[1]
        before = str(own)


def _numbers(their: Step, own: Step, size: Pair) -> Iterator[tuple[str, object, object]]:
    """What must be equal in two steps of a kind: (what it is, the file's value, the network's)."""
    if their.window and own.window:
        yield "kernel", their.window.kernel, own.window.kernel
        yield "stride", their.window.stride, own.window.stride
        yield "dilation", their.window.dilation, own.window.dilation
        (their_padding, their_count), (own_padding, own_count) = their.window.placed(size), own.window.placed(size)
        yield "padding", their_padding, own_padding
        yield "output", their_count, own_count
    yield "groups", their.groups, own.groups
    if their.contrast and own.contrast:
        for name in ("n", "alpha", "beta", "k"):
            found, wanted = getattr(their.contrast, name), getattr(own.contrast, name)
            yield name, wanted if isclose(found, wanted, rel_tol=1e-6) else found, wanted  # ONNX keeps float32
        yield "maps before its own", their.maps_before, own.maps_before


def _text(value: object) -> str:
    return "×".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"
