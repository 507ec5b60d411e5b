"""Does an ONNX file compute what a network computes? Both are listed as operations and compared one by one.

Compared is where windows are placed, not how their padding is written: "ceil mode" and a row of padding at the far side are
equal if they place the same windows on maps of this size.
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
FULLY_CONNECTED = "full connection"
RELU = "ReLU"
LRN = "contrast normalisation"
MAX_POOLING = "max pooling"
FLATTEN = "flattening"


@dataclass(frozen=True)
class WindowSpec:
    """The sliding window of a convolution or pooling, as a file or a module specifies it; pairs are (rows, columns)."""

    kernel: Pair
    stride: Pair
    dilation: Pair = (1, 1)
    pad_before: Pair = (0, 0)
    """Padding above and to the left: zeros for a convolution, −∞ for a max pooling."""
    pad_after: Pair = (0, 0)
    """Padding below and to the right."""
    ceil: bool = False
    """May the last window hang over the edge?"""
    auto_pad: str = ""
    """"SAME_UPPER" or "SAME_LOWER": pad for one window per stride, with an odd pixel after or before the map."""

    def placement(self, map_size: Pair) -> tuple[Pair, Pair]:
        """Where the windows are on a map of this size: the padding before the first one, and how many there are."""
        rows, columns = (self._placement_along(axis, length) for axis, length in enumerate(map_size))
        return (rows[0], columns[0]), (rows[1], columns[1])

    def _placement_along(self, axis: int, length: int) -> Pair:
        before, after, stride = self.pad_before[axis], self.pad_after[axis], self.stride[axis]
        extent = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        if self.auto_pad:
            count = -(-length // stride)
            padding = max((count - 1) * stride + extent - length, 0)
            return (padding + 1) // 2 if self.auto_pad == "SAME_LOWER" else padding // 2, count
        free = length + before + after - extent
        count = (-(-free // stride) if self.ceil else free // stride) + 1
        if self.ceil and (count - 1) * stride >= length + before:
            count -= 1  # torch and ONNX: no window begins beyond the map
        return before, count


@dataclass(frozen=True)
class Operation:
    """One operation of a network."""

    type: str
    """One of the constants above, or a file's name of an operation that our networks do not have."""
    layer: str
    """The layer with weights that this is, or that it follows; empty before the first one."""
    window: WindowSpec | None = None
    groups: int = 1
    lrn_constants: LRNConstants | None = None
    lrn_maps_before: int = 0
    """How many of the n maps come before the normalised one; for an even n, ONNX and torch differ."""

    def __str__(self) -> str:
        if self.type in (CONVOLUTION, FULLY_CONNECTED):
            return f"the {self.type} {self.layer}"
        return f"the {self.type} after {self.layer}" if self.layer else f"a {self.type} at the start"


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LocalResponseNorm) or super().is_leaf_module(m, module_qualified_name)


def module_operations(module: nn.Module) -> Iterator[Operation]:
    """The operations of an AlexNet2012 or ZFNet in the order in which they run, without dropout.

    torch.fx lists them without running the module. `tracing.trace` would have to run it: on the meta device that imports
    torch's compiler, which takes seconds.
    """
    layer = ""
    for node in _Tracer().trace(module).nodes:
        submodule = module.get_submodule(node.target) if node.op == "call_module" else None
        match submodule:
            case nn.Conv2d() as conv:
                layer = node.target
                pads = conv.padding, conv.padding
                window = WindowSpec(conv.kernel_size, conv.stride, conv.dilation, *pads)  # type: ignore[arg-type]
                yield Operation(CONVOLUTION, layer, window, conv.groups)
            case nn.Linear():
                layer = node.target
                yield Operation(FULLY_CONNECTED, layer)
            case nn.ReLU():
                yield Operation(RELU, layer)
            case nn.MaxPool2d(kernel_size=int(kernel), stride=int(stride), padding=int(padding), ceil_mode=ceil):
                pad = (padding, padding)
                window = WindowSpec((kernel, kernel), (stride, stride), (1, 1), pad, pad, ceil)
                yield Operation(MAX_POOLING, layer, window)
            case LocalResponseNorm(constants=constants):
                yield Operation(LRN, layer, lrn_constants=constants, lrn_maps_before=constants.n // 2)
            case None if node.target == "flatten":
                yield Operation(FLATTEN, layer)
            case nn.Dropout():
                pass
            case None if node.op in ("placeholder", "output"):
                pass
            case _:
                raise AssertionError(f"unknown operation {node.op} {node.target}")


def check_same(theirs: Sequence[Operation], module: nn.Module, map_size: Pair, source: str, network: str) -> None:
    """Compare a file's operations with a module's on inputs of `map_size` (rows, columns).

    Raises `DeconvnetError` for the first difference, with the names `source` and `network`.
    """
    previous = "the beginning"
    for their, our in zip_longest(theirs, module_operations(module)):
        if our is None:
            raise DeconvnetError(f"{source} goes on with {their} where {network} ends, after {previous}.")
        if their is None:
            raise DeconvnetError(f"{source} ends after {previous}, where {network} goes on with {our}.")
        if their.type != our.type:
            raise DeconvnetError(f"{source} has {their} where {network} has {our}.")
        for attribute, value, expected in _compare_attributes(their, our, map_size):
            if value != expected:
                raise DeconvnetError(
                    f"{source} has {our} with {attribute} {_format(value)}, but {network} has it with {_format(expected)} "
                    "(some of these can be changed under [options] of --preprocessing FILE.toml)."
                )
        if our.window:
            map_size = our.window.placement(map_size)[1]
        previous = str(our)


def _compare_attributes(their: Operation, our: Operation, map_size: Pair) -> Iterator[tuple[str, object, object]]:
    """What must be equal in two operations of one type: (attribute, the file's value, the module's)."""
    if their.window and our.window:
        yield "kernel", their.window.kernel, our.window.kernel
        yield "stride", their.window.stride, our.window.stride
        yield "dilation", their.window.dilation, our.window.dilation
        their_padding, their_output = their.window.placement(map_size)
        our_padding, our_output = our.window.placement(map_size)
        yield "padding", their_padding, our_padding
        yield "output", their_output, our_output
    yield "groups", their.groups, our.groups
    if their.lrn_constants and our.lrn_constants:
        for name in ("n", "alpha", "beta", "k"):
            value, expected = getattr(their.lrn_constants, name), getattr(our.lrn_constants, name)
            yield name, expected if isclose(value, expected, rel_tol=1e-6) else value, expected  # ONNX stores float32
        yield "maps before its own", their.lrn_maps_before, our.lrn_maps_before


def _format(value: object) -> str:
    return "×".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"
