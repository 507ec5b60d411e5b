"""A stand-in for a GPU: within `emulated`, PyTorch has a device `emu`, whose tensors compute on the CPU.

As on CUDA, mixing its tensors with others raises, and reading a value back makes the program wait, which is counted. As on
Apple's GPUs, there is no float64. With noise its convolutions round otherwise from call to call, as those of cuDNN do
between algorithms and shapes of batches.

It has no autocast and no inference mode (`torch.no_grad` stands in), no streams, no pinned memory and no speed.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
import torch._dynamo  # which torch imports when a mode is first used, and within one takes ten times as long
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

#: Whether this version of PyTorch has the experimental hook for devices written in Python. Not where there is a GPU, for
#: which PyTorch would take this device, when it pins memory for example; tests/accelerator/test_gpu.py runs there.
IS_AVAILABLE = hasattr(backend_registration, "_setup_privateuseone_for_python_backend") and not torch.cuda.is_available()

aten = torch.ops.aten

_INDEXING = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}
_COPIES = {aten._to_copy.default, aten.copy_.default}
#: Operations whose result, or its shape, the program has to know.
_WAITS = {
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten.unique_consecutive.default,
    aten.unique_dim.default,
    aten._unique2.default,
}


class _State:
    """Of the emulation that is in progress."""

    def __init__(self, noise: float) -> None:
        self.noise = noise
        self.waits: Counter[str] = Counter()
        self.generator = torch.Generator().manual_seed(0)  # of its own: noise must not change what the program draws


_state = _State(0.0)

if IS_AVAILABLE:

    class _Backend(backend_registration._DummyBackendModule):
        def is_initialized(self) -> bool:
            return True

        def is_available(self) -> bool:
            return True

        def device_count(self) -> int:
            return 1

        def current_device(self) -> int:
            return 0

        def get_amp_supported_dtype(self) -> list[torch.dtype]:
            return [torch.bfloat16, torch.float16]

        def manual_seed_all(self, seed: int) -> None:
            pass

        def get_rng_state(self, device: Any = None) -> Tensor:
            return torch.get_rng_state()

        def set_rng_state(self, state: Tensor, device: Any = None) -> None:
            pass

    backend_registration._setup_privateuseone_for_python_backend("emu", _Backend())
    DEVICE = torch.device("emu:0")


class EmulatedTensor(torch.Tensor):
    """A tensor on the device, which holds one on the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "EmulatedTensor":
        if inner.dtype == torch.float64:
            raise TypeError("emu:0 does not have float64, nor does Apple's mps: compute on the CPU")
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=DEVICE,
            requires_grad=False,
        )
        tensor.inner = inner
        return tensor

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self) -> str:
        return f"EmulatedTensor({self.inner})"

    def tolist(self) -> Any:
        _state.waits["tolist"] += 1
        return self.inner.tolist()

    def as_subclass(self, cls: type) -> Tensor:
        return self

    def numpy(self, *_: Any, **__: Any) -> None:
        raise TypeError("can't convert emu:0 device type tensor to numpy. Use Tensor.cpu() first.")

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run an operation on the CPU, as the device that its arguments are on, or that it names, would."""
    flat, _ = tree_flatten((args, kwargs))
    emulated = [value for value in flat if isinstance(value, EmulatedTensor)]
    plain = [value for value in flat if isinstance(value, torch.Tensor) and not isinstance(value, EmulatedTensor)]
    kwargs = dict(kwargs)
    on_device = bool(emulated)
    named_devices = [value for value in args if isinstance(value, torch.device)]
    if kwargs.get("device") is not None:
        on_device = torch.device(kwargs["device"]).type == "emu"
        kwargs["device"] = torch.device("cpu")
    elif named_devices:
        on_device = named_devices[0].type == "emu"
    kwargs.pop("pin_memory", None)
    if emulated and func not in _COPIES:
        wrong = [tensor for tensor in plain if tensor.dim() > 0]
        if func in _INDEXING and isinstance(args[0], EmulatedTensor):  # indices may be on the CPU, on CUDA too
            wrong = [tensor for tensor in wrong if not any(tensor is index for index in args[1] or ())]
        if wrong:
            raise RuntimeError(f"{func}: expected all tensors on emu:0, found {tuple(wrong[0].shape)} on the CPU")
    reads_back = func in _COPIES and emulated and (not on_device or not isinstance(args[0], EmulatedTensor))
    if (func in _WAITS and emulated) or reads_back or (func is aten.index.Tensor and _has_mask(args[1])):
        _state.waits[str(func)] += 1

    def to_cpu(value: Any) -> Any:
        if isinstance(value, torch.device) and value.type == "emu":
            return torch.device("cpu")
        return value.inner if isinstance(value, EmulatedTensor) else value

    output = func(*tree_map(to_cpu, args), **tree_map(to_cpu, kwargs))
    if _state.noise and emulated and func is aten.convolution.default:
        normal = torch.randn(output.shape, generator=_state.generator, dtype=output.dtype)
        output = output + normal * (_state.noise * output.abs().mean())
    first = args[0] if args else None
    in_place = func._schema.is_mutable and func._schema.name.endswith("_")
    if in_place and isinstance(first, torch.Tensor) and isinstance(output, torch.Tensor):
        return first

    def to_device(value: Any) -> Any:
        is_plain = isinstance(value, torch.Tensor) and not isinstance(value, EmulatedTensor)
        return EmulatedTensor(value) if is_plain and on_device else value

    return tree_map(to_device, output)


def _has_mask(indices: Sequence[Tensor | None]) -> bool:
    """Whether one of the indices is a mask on the device: how many elements it chooses has to be read back."""
    return any(isinstance(index, EmulatedTensor) and index.dtype in (torch.bool, torch.uint8) for index in indices)


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Indexed(TorchFunctionMode):
    """`emu` means `emu:0`."""

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        def indexed(value: Any) -> Any:
            is_string = isinstance(value, str) and value == "emu"
            is_device = isinstance(value, torch.device) and value.type == "emu" and value.index is None
            return DEVICE if is_string or is_device else value

        return func(*map(indexed, args), **{name: indexed(value) for name, value in (kwargs or {}).items()})


class _NoGradForInference:
    def __init__(self, mode: bool = True) -> None:
        self.context = torch.no_grad() if mode else torch.enable_grad()

    def __enter__(self) -> Any:
        return self.context.__enter__()

    def __exit__(self, *error: Any) -> Any:
        return self.context.__exit__(*error)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return self.context(function)


@contextmanager
def emulated(noise: float = 0.0) -> Iterator[Counter[str]]:
    """Within, the device `emu` is there; yields how often the program waited for it, by operation.

    `noise` is the standard deviation of what is added to the results of convolutions, as a share of their mean absolute
    value: 3e-7 to 3e-6 is what float32 gives between algorithms. Modes belong to a thread: other threads may compute with
    the device's tensors, but create some only in functions that are `usable_in_threads`.
    """
    global _state
    inference_mode, torch.inference_mode = torch.inference_mode, _NoGradForInference
    _state = _State(noise)
    try:
        with _Indexed(), _Dispatch():
            yield _state.waits
    finally:
        torch.inference_mode = inference_mode
        _state = _State(0.0)


def usable_in_threads(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, which may be called in a thread that starts within `emulated` and create tensors of the device there."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with _Indexed(), _Dispatch():
            return function(*args, **kwargs)

    return wrapped
