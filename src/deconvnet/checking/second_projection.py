"""A second implementation of projections (section 2.1), plain and slow, to compare the first one with.

It shares nothing with `tracing` and `projection`. Autograd records a forward pass, whatever functions, scripts or operators
the module is written in. In the recorded graph the derivative of each ReLU is replaced by the paper's rule, the signal is
itself rectified, and that of local response normalisation by the identity. Everything else passes its transpose, which is
what autograd does.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import GradientEdge, Node, saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle

#: Nodes of a recorded pass that are linear, or choose among values as a pooling does; all but their number.
_HAS_RULE = frozenset(
    """
    Add Sub Neg Rsub
    AvgPool2D AvgPool3D AdaptiveAvgPool2D MkldnnAdaptiveAvgPool2D Mean Sum MaxPool2DWithIndices MaxPool3DWithIndices
    AdaptiveMaxPool2D FractionalMaxPool2D Max Amax Maximum Minimum Where ConstantPadNd ReflectionPad2D ReplicationPad2D
    UpsampleNearest2D UpsampleBilinear2D UpsampleBicubic2D UpsampleNearestExact2D PixelShuffle PixelUnshuffle ChannelShuffle
    Im2Col Col2Im Unfold View UnsafeView ViewAs Reshape ReshapeAlias Permute Transpose T Expand Repeat Unsqueeze Squeeze
    Slice Select Index IndexSelect Gather Split SplitWithSizes UnsafeSplit UnsafeChunk Chunk Unbind Cat Stack Flip Roll Clone
    Copy CopySlices AsStrided Alias ToCopy Lift Detach Identity Diagonal ToMkldnn
    """.split()
)

#: Products, which are linear in one signal, and not in two.
_PRODUCTS = frozenset(
    "Mul Mm Bmm Baddbmm Mv Dot Addmm Linear Convolution MkldnnConvolution NativeBatchNorm CudnnBatchNorm".split()
)

#: What the divisor of local response normalisation is made of, besides a power and a mean over neighbouring maps.
_LRN_STEPS = frozenset("Add Mul ConstantPadNd View Unsqueeze Squeeze ReshapeAlias Clone".split())


@dataclass(frozen=True)
class RecordedReLU:
    """A ReLU of a recorded forward pass."""

    node: Node
    output: Tensor
    units_last: bool = False
    """Are its units the last dimension of its output, in place of the second?"""

    @property
    def maps(self) -> Tensor:
        """(1, units, rows, columns) or (1, units), a view of its output."""
        return self.output.movedim(-1, 1) if self.units_last else self.output


class SecondProjection:
    """One recorded forward pass over one input, and projections of activations of its ReLUs."""

    def __init__(self, module: nn.Module, x: Tensor) -> None:
        """`module`, a `plain_copy`, is run on `x` (1, C, H, W)."""
        self.x = x.detach().clone().requires_grad_()
        weights = {tensor.untyped_storage().data_ptr() for tensor in module.parameters()}

        def keep(saved: Tensor) -> Tensor:  # a copy, as the module may go on to change it in place
            return saved if saved.untyped_storage().data_ptr() in weights else saved.clone()

        recorder = _Recorder()
        with torch.inference_mode(False), torch.enable_grad(), saved_tensors_hooks(keep, lambda saved: saved), recorder:
            output = module(self.x * 1)  # a module must not change a leaf in place
        outputs = [leaf.grad_fn for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        nodes = sorted(_reachable([*outputs, *recorder.nodes]), key=lambda node: node._sequence_nr())
        self.relus: list[RecordedReLU] = []
        """In the order in which they ran."""
        self._norms: set[Node] = set()
        for node in nodes:
            rectified = _rectified(node)
            if rectified is not None:
                self.relus.append(RecordedReLU(node, rectified))
                _replace_derivative(node, lambda signal: signal.clamp(min=0))
            elif _is_local_response_norm(node):
                self._norms.add(node)
                _replace_derivative(node, lambda signal: signal)

    def find(self, maps: Tensor) -> RecordedReLU | None:
        """The first ReLU whose output are these maps, (1, units, rows, columns) or (1, units); None if there is none."""
        tolerance = torch.finfo(maps.dtype).eps ** 0.5 * float(maps.abs().amax())
        for relu in self.relus:
            for found in (relu, RecordedReLU(relu.node, relu.output, units_last=relu.output.dim() > 2)):
                if found.maps.shape == maps.shape and bool(((found.maps - maps).abs() <= tolerance).all()):
                    return found
        return None

    def project(self, relu: RecordedReLU, unit: int, row: int, column: int) -> Tensor:
        """(C, H, W): one activation of a ReLU sent down, all others of its layer zero."""
        start = RecordedReLU(relu.node, torch.zeros_like(relu.output), relu.units_last)
        place = (0, unit, row, column)[: start.maps.dim()]
        start.maps[place] = relu.maps[place]
        (pixels,) = torch.autograd.grad(
            [GradientEdge(relu.node, 0)], [self.x], [start.output], retain_graph=True, allow_unused=True
        )
        return torch.zeros_like(self.x[0]) if pixels is None else pixels[0]

    def without_rule(self, relu: RecordedReLU) -> list[str]:
        """Names of what a ReLU depends on that is neither linear nor has a rule, such as the product of a gate; with "()"
        those of autograd functions that the module defines itself.
        """
        relus = {relu.node for relu in self.relus}
        names, seen, todo = set[str](), set[Node](), [relu.node]
        while todo:
            node = todo.pop()
            if node in seen:
                continue
            seen.add(node)
            inputs = [node.next_functions[0][0]] if node in self._norms else _inputs(node)
            todo += [earlier for earlier in inputs if earlier is not None]
            name = _name(node)
            linear = name in _HAS_RULE or (name in _PRODUCTS and len(inputs) == 1) or _divides_by_constant(node)
            if not (linear or node in relus or node in self._norms or name == "AccumulateGrad"):
                names.add(name if name.endswith("()") else name.lower())
        return sorted(names)


def plain_copy(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of a module in evaluation mode on the CPU, without backward hooks, of which no weight needs a gradient.

    Raises whatever the module raises when it is copied.
    """
    # Weights that a hook computes anew in each pass, as pruning does, are results of autograd, which refuses to copy them.
    computed = {
        id(value): value.detach()
        for submodule in module.modules()
        for value in vars(submodule).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    plain = copy.deepcopy(module, computed).to("cpu", dtype).eval().requires_grad_(False)
    for submodule in plain.modules():
        submodule._backward_hooks.clear()
        submodule._backward_pre_hooks.clear()
    return plain


class _Recorder(TorchFunctionMode):
    """Keeps what the recorded graph alone does not: results that no output depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[Node] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.register_hook:  # set by the module inside of its forward, to look at gradients
            return RemovableHandle(OrderedDict())
        kwargs = kwargs or {}
        name, x = getattr(func, "__name__", ""), args[0] if args else None
        in_place = kwargs.get("inplace") or (name.endswith("_") and not name.endswith("__") and name != "copy_")
        if in_place and isinstance(x, Tensor) and x._is_view():
            # A graph hides what changes a view in place, so a copy is changed, and written there.
            return x.copy_(func(x.clone(), *args[1:], **kwargs))
        result = func(*args, **kwargs)
        tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and leaf.grad_fn is not None]
        self.nodes += [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
        if isinstance(result, tuple | list) and len(tensors) == len(result) and all(part._is_view() for part in result):
            # The parts of a split, each as a view for itself: autograd lets only those be changed in place.
            return tuple(args[0].as_strided(part.shape, part.stride(), part.storage_offset()) for part in result)
        return result


def _name(node: Node) -> str:
    """What a node of a graph is the derivative of: "Relu" for ReluBackward0, "Relu()" for an autograd function of Python."""
    if isinstance(node, BackwardCFunction):
        return f"{node.name().removesuffix('Backward')}()"
    return node.name().rpartition("::")[2].rstrip("0123456789").removesuffix("Backward")


def _inputs(node: Node) -> list[Node]:
    return [earlier for earlier, _ in node.next_functions if earlier is not None]


def _divides_by_constant(node: Node) -> bool:
    return _name(node) == "Div" and node.next_functions[0][0] is not None and len(_inputs(node)) == 1


def _reachable(roots: Iterable[Node | None]) -> set[Node]:
    """The nodes of graphs, without where they end."""
    seen, todo = set[Node](), [node for node in roots if node is not None]
    while todo:
        node = todo.pop()
        if node not in seen and _name(node) != "AccumulateGrad":
            seen.add(node)
            todo += _inputs(node)
    return seen


def _rectified(node: Any) -> Tensor | None:
    """The output max(x, 0), or at most a ceiling, of a node that is a ReLU by its arguments; None for another."""
    name = _name(node)
    if name == "Relu":
        return node._saved_result
    if name == "Threshold" and node._saved_threshold == 0:
        return node._saved_self.clamp(min=0)
    if name == "Hardtanh" and node._saved_min_val == 0:
        return node._saved_self.clamp(0, node._saved_max_val)
    if name == "ClampMin" and _is_zero(node._saved_min):
        return node._saved_self.clamp(min=0)
    if name == "Clamp" and _is_zero(node._saved_min):
        return torch.clamp(node._saved_self, node._saved_min, node._saved_max)
    if name == "Maximum" and len(_inputs(node)) == 1:
        first_is_signal = node.next_functions[0][0] is not None
        signal, other = (node._saved_self, node._saved_other)[:: 1 if first_is_signal else -1]
        return signal.clamp(min=0) if _is_zero(other) else None
    return None


def _is_zero(bound: Tensor | float | None) -> bool:
    return bound is not None and not bool(torch.as_tensor(bound).any())


def _is_local_response_norm(node: Node) -> bool:
    """Does a node divide maps by a power of the mean of their squares over neighbouring maps (Krizhevsky et al. 2012)?"""
    if _name(node) == "CrossMapLRN2d()":
        return True
    if _name(node) not in ("Div", "Mul") or len(_inputs(node)) != 2:
        return False
    maps, divisor = (earlier for earlier, _ in node.next_functions)
    names, seen, todo = [], {maps}, [divisor]
    while todo:
        step: Any = todo.pop()
        if step in seen or step is None:
            continue
        seen.add(step)
        names.append(_name(step))
        if names[-1] == "AvgPool3D" and any(size > 1 for size in step._saved_kernel_size[1:]):
            return False  # over places
        todo += _inputs(step)
    others = set(names) - _LRN_STEPS
    return others == {"Pow", "AvgPool3D"}


def _replace_derivative(node: Node, rule: Callable[[Tensor], Tensor]) -> None:
    """Let the one signal input of a node get what `rule` makes of the signal of its output."""

    def replace(inputs: Sequence[Tensor | None], outputs: Sequence[Tensor | None]) -> tuple[Tensor | None, ...] | None:
        if outputs[0] is None:
            return None
        passed = [rule(outputs[0]), *(None if other is None else torch.zeros_like(other) for other in inputs)]
        first = next(index for index, (earlier, _) in enumerate(node.next_functions) if earlier is not None)
        return tuple(passed[0] if index == first else passed[index + 1] for index in range(len(inputs)))

    node.register_hook(replace)
