"""`Network`: a module with everything that is needed to look inside it."""

import copy
import hashlib
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from deconvnet.data.as_preprocessing import AnyPreprocessing, as_preprocessing
from deconvnet.errors import DeconvnetError, DeconvnetWarning, ForwardError, UsageError
from deconvnet.models.alexnet_family import AlexNetFamily
from deconvnet.models.input_space import InputSpace, ToImage
from deconvnet.models.library_modules import checked_classes, find_class_names, warn_of_other_preprocessing
from deconvnet.models.module_copies import runnable_module
from deconvnet.models.self_checks import SelfChecks
from deconvnet.tracing import (
    CropPlan,
    Layer,
    LayerWeights,
    PartialForward,
    Rules,
    SwitchPlan,
    Trace,
    describe_failure,
    exact_float32,
    find_output,
    iter_tensors,
    layer_weights,
    plan_crop,
    plan_switches,
    run_intercepted,
)

#: An atlas has a folder for each layer, next to files and folders with these names.
_RESERVED_NAME = re.compile(r"[/\\\0]|^\.*\Z|^(images|classes|pages)\Z|\.(csv|html|json|np[yz]|png)\Z", re.IGNORECASE)

#: Gets the name of a layer and its output, (N, units, rows, columns).
LayerCallback = Callable[[str, Tensor], None]


class Network:
    """A module with its preprocessing, its named layers, its class names and the source of its weights.

    The module itself is never changed: `network.module` is a copy around the same weights where a way of writing local
    response normalisation was recognised, and a copy of weights that were made in inference mode. It must take
    (N, 3, crop, crop), RGB, normalised by `preprocessing`; or, without one, (N, C, H, W) of `input_shape` = (C, H, W): then
    its inputs come from a `torch.utils.data.Dataset`, and what reads photos is refused. Its layers are the outputs of its
    ReLUs, before pooling (as in Fig. 2), found by tracing one forward pass when they are first needed; without any, those of
    SiLU and the like, which only the rules `gradient` pass.

    Raises `UsageError` if `module` is no module, `preprocessing` nothing that one can be made of (`as_preprocessing`) or
    `input_shape` no shape. `layers`, and what needs them, raises `DeconvnetError` for a module that cannot be run on inputs
    of its size or has no ReLU, and `UsageError` for layer names that do not fit.
    """

    #: What `load` makes this network from, with an absolute path if it is a file; empty if `load` did not make it.
    address: str = ""

    def __init__(
        self,
        module: nn.Module,
        preprocessing: Any = None,
        *,
        input_shape: tuple[int, int, int] | None = None,
        to_image: ToImage | None = None,
        name: str = "network",
        weights: str = "",
        layer_names: Sequence[str] | None = None,
        classes: Sequence[tuple[str, str]] | None = None,
        classifies: bool | None = None,
    ) -> None:
        """`preprocessing` is a `Preprocessing` or what `as_preprocessing` makes one of: torchvision's weights, timm's data
        configuration, an image processor of transformers, a transform. `to_image` makes the picture of an input, (C, H, W)
        float32 on the CPU: (H, W) or (H, W, 3) uint8, or a PIL image of that size (default: see `show`). `weights` says in a
        few words where they are from; `layer_names` renames the layers in the order in which they run (default: conv1,
        conv2 … for our own modules, module paths for others); `classes` are (WordNet id or "", name) of each output
        (default: those that torchvision, timm or transformers state); `classifies` is False for a trunk, whose output is no
        class scores (default: whether the output is a vector).
        """
        if not isinstance(module, nn.Module):
            raise UsageError(f"A network needs a torch.nn.Module, such as torchvision.models.resnet18(), not {module!r}.")
        self.module = runnable_module(module, name)
        prepares = None if preprocessing is None else as_preprocessing(preprocessing)
        warn_of_other_preprocessing(module, prepares, name)
        self.input_space = InputSpace(prepares, input_shape, to_image)
        """What the module's inputs are, how a photo becomes one and how one is shown."""
        self.name = name
        self.weights = weights
        named = find_class_names(module, preprocessing) if classes is None and classifies is not False else classes
        self.classes = None if named is None else checked_classes(named)
        self._classifies = classifies
        self._layer_names = layer_names or (module.layer_names if isinstance(module, AlexNetFamily) else None)
        self._crop_plans: dict[str, CropPlan | None] = {}
        self._switch_plans: dict[str, SwitchPlan | None] = {}
        self.verified_switch_plans: dict[str, bool] = {}
        """By layer, whether projections by its switch plan have been found to be right."""
        self.layers_with_equal_values: set[str] = set()
        """Layers of which the activations have been found to be the same where gradients are computed."""
        self._warned: set[str] = set()

    def __repr__(self) -> str:
        return f"<Network {self.full_name}: {', '.join(self.layers)}>"

    @property
    def full_name(self) -> str:
        """Name and weights, as printed on every figure."""
        return f"{self.name} ({self.weights})" if self.weights else self.name

    # The module

    @property
    def device(self) -> torch.device:
        """The device of the module's weights."""
        return next(self.module.parameters(), torch.empty(0)).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the module's weights, and so of activations and projections."""
        return next(self.module.parameters(), torch.empty(0)).dtype

    @property
    def reason_for_non_finite(self) -> str:
        """Why values of this network may be infinite or NaN, in words for an error."""
        overflow = ", or its sums overflow in float16 (network.module.float() converts it)"
        return f"its weights are damaged{overflow if self.dtype == torch.float16 else ''}"

    def to(self, device: torch.device | str) -> Self:
        """Move the module; returns the network."""
        self.module.to(device)
        self.__dict__.pop("_checks", None)
        return self

    @property
    def classifies(self) -> bool:
        """Is its output class scores, (N, classes)?"""
        return len(self.trace.output_shape) == 2 if self._classifies is None else self._classifies

    @classifies.setter
    def classifies(self, value: bool) -> None:
        self._classifies = value

    @property
    def digest(self) -> str:
        """SHA-256 over the names and values of the module's weights and buffers."""
        digest = hashlib.sha256()
        for name, value in sorted(self.module.state_dict().items()):
            for tensor in iter_tensors(value):  # several where weights are packed
                if tensor.is_meta:
                    raise DeconvnetError(f"{self.name} is on the meta device: its weights have no values.")
                plain = tensor.dequantize() if tensor.is_quantized else tensor.to_dense()
                digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
                digest.update(plain.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def with_module(self, module: nn.Module) -> Self:
        """A copy of this network around another module that computes the same."""
        network = copy.copy(self)
        network.module = module
        return network

    # Layers

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """The layers in the order in which they run, by name."""
        layers = self.trace.layers
        names = self._layer_names or [layer.name for layer in layers]
        if len(names) != len(layers) or len(set(names)) != len(names):
            traced_names = ", ".join(layer.name for layer in layers)
            raise UsageError(f"{self.name} needs {len(layers)} different layer names, one for each of {traced_names}.")
        invalid = [name for name in names if _RESERVED_NAME.search(name)]
        if invalid:
            raise UsageError(
                f"A layer cannot be called {invalid[0]!r}, which has a meaning of its own in an atlas: give other "
                "layer_names."
            )
        return {name: replace(layer, name=name) for name, layer in zip(names, layers, strict=True)}

    @cached_property
    def _checks(self) -> SelfChecks:
        return SelfChecks(self.module, self.name, self.input_space.noise().to(self.device, self.dtype))

    @cached_property
    def trace(self) -> Trace:
        """The calls of torch in a forward pass, and the layers among them."""
        return self._checks.trace()

    def layer(self, name: str) -> Layer:
        """The layer called `name`. Raises `UsageError`, which lists the layers, if there is none."""
        try:
            return self.layers[name]
        except KeyError:
            raise UsageError(f"{self.name} has no layer {name!r}; its layers are {', '.join(self.layers)}.") from None

    @property
    def convolutional_layers(self) -> list[str]:
        """Names of the layers that have feature maps."""
        return [name for name, layer in self.layers.items() if layer.convolutional]

    @property
    def filters(self) -> Tensor | None:
        """The first layer's filters (units, C, rows, columns); None if that layer is not a plain convolution."""
        first = next(iter(self.layers.values()))
        result = self.layer_filters(first.name)
        shape = (first.units, self.input_shape[0], *first.field.size)
        return result.weights if result is not None and result.is_first and result.weights.shape == shape else None

    def layer_filters(self, name: str) -> LayerWeights | None:
        """The filters of a layer; None if it is computed by more than one convolution or fully connected product."""
        return layer_weights(self.trace, self.layer(name).index)

    def crop_plan(self, name: str) -> CropPlan | None:
        """What one activation of the layer depends on, or None if the forward pass cannot be cropped to it."""
        if name not in self._crop_plans:
            self._crop_plans[name] = plan_crop(self.trace, self.layer(name).index)
        return self._crop_plans[name]

    def switch_plan(self, name: str) -> SwitchPlan | None:
        """How the layer's activations are projected by switches alone; None if their way down reads more of the photo."""
        if name not in self._switch_plans:
            self._switch_plans[name] = plan_switches(self.trace, self.layer(name).index)
        return self._switch_plans[name]

    def warn_once(self, kind: str, message: str) -> None:
        """Warn of something about this network, once of each kind."""
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(message, DeconvnetWarning, stacklevel=3)

    # Inputs

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the module's input, (C, H, W)."""
        return self.input_space.shape

    @property
    def preprocessing(self) -> AnyPreprocessing:
        """Turns a photo into the module's input. Raises `UsageError` if there is none."""
        return self.input_space.preprocessing_of(self.name)

    def preprocess(self, image: Image.Image) -> Tensor:
        """An image as this network's input, (3, crop, crop) float32 on the CPU; add `[None]` for a batch of one.

        Raises `UsageError` for anything but a PIL image, and for a network without a preprocessing.
        """
        return self.input_space.preprocess(image, self.name)

    def check_input(self, x: Tensor) -> None:
        """Raise `UsageError` unless `x` has the shape (N, C, H, W)."""
        self.input_space.check(x, self.name)

    def show(self, inputs: Tensor) -> np.ndarray:
        """Pictures of inputs (N, C, H, W): (N, H, W, 3) uint8 by `to_image`, else by the preprocessing inverted; else
        (N, H, W, C), each channel by itself, its lowest value black. Raises `UsageError` if `to_image` gives none such.
        """
        return self.input_space.show(inputs)

    def module_input(self, x: Tensor) -> Tensor:
        """A copy of `x` on the network's device, as a module may change its input in place, of its dtype, and laid out in
        memory as is fastest there, if the module takes that.
        """
        return x.to(self.device, self.dtype, copy=True, memory_format=self._checks.layout)

    # Forward passes

    def output(self, x: Tensor) -> Tensor:
        """The module's output for `x` (N, C, H, W); of a classifier the scores (N, classes) before the softmax.

        Of several, what is called `logits` or `out`, or the first of a tuple. Raises `DeconvnetError` if there is none such.
        """
        with torch.no_grad():
            return self.find_output(self.capture(x, [], lambda *_: None, to_end=True), len(x))

    def probabilities(self, x: Tensor) -> Tensor:
        """The softmax of the module's output for `x` (N, C, H, W): (N, classes) float32, each row summing to 1.

        Raises `DeconvnetError` for a trunk, which has no classifier.
        """
        if not self.classifies:
            if self._classifies is None and not self.trace.output_shape:
                self.output(x)  # raises, and says why no class scores are found
            raise DeconvnetError(f"{self.full_name} has no classifier, so it cannot say what is in a photo.")
        scores = self.output(x).float()
        if scores.dim() != 2 or len(scores) != len(x):
            raise DeconvnetError(
                f"{self.full_name} gives a tensor of shape {tuple(scores.shape)} for {len(x)} photos, not (photos, "
                "classes): pass classifies=False for a network without a classifier."
            )
        return scores.softmax(dim=1)

    def activations(self, x: Tensor, layer: str) -> Tensor:
        """The output of a layer for `x` (N, C, H, W): (N, units, rows, columns), or (N, units) if fully connected.

        After the ReLU, so never negative. Raises `UsageError` for an unknown layer or inputs of another shape.
        """
        captured: list[Tensor] = []
        with torch.no_grad():
            self.capture(x, [layer], lambda _, maps: captured.append(maps.clone()))
        return captured[0] if self.layer(layer).convolutional else captured[0][:, :, 0, 0]

    def capture(
        self,
        x: Tensor,
        layers: Iterable[str],
        callback: LayerCallback,
        rules: Rules | None = None,
        *,
        to_end: bool = False,
    ) -> Any:
        """Run one forward pass over `x` (N, C, H, W), as far as the last of `layers`, and capture their outputs.

        `callback(name, maps)` gets the output of each layer as soon as it is computed, (N, units, rows, columns); rows =
        columns = 1 for a fully connected layer. It is a callback because the module may overwrite the maps once it resumes:
        use them at once or copy them. With `to_end` the pass does not stop at the last of `layers`, and what the module
        returns is returned; otherwise None.
        """
        names = {self.layer(name).index: name for name in layers}
        if not names and not to_end:
            return None
        last, captured = max(names, default=None), 0
        of_callback: list[Exception] = []

        def on_relu(index: int, output: Tensor) -> bool:
            nonlocal captured
            if index in names:
                maps, layer = as_maps(output), self.layers[names[index]]
                if tuple(maps.shape) != (len(x), layer.units, *layer.map_size):
                    raise DeconvnetError(
                        f"{layer.name} of {self.name} gives a tensor of shape {tuple(output.shape)} for {len(x)} images, "
                        "which is not what it was when the layers were found: a network has to do the same in every pass."
                    )
                try:
                    callback(layer.name, maps)
                except Exception as error:
                    of_callback.append(error)
                    raise
                captured += 1
            return index == last and not to_end

        self.check_input(x)
        with exact_float32(), self._own_errors(of_callback):
            returned = run_intercepted(self.module, self.module_input(x), on_relu, rules)
        if captured < len(names):
            raise DeconvnetError(f"{self.name} did not come by all its layers: it has to do the same in every pass.")
        return returned if to_end else None

    def find_output(self, returned: Any, count: int, complete: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> Tensor:
        """The output proper among what the module returned for `count` images. Raises `DeconvnetError` if there is none.

        `complete` makes whole maps of the cropped ones of an incremental pass.
        """
        try:
            return find_output(returned, count, complete)
        except DeconvnetError as error:
            raise DeconvnetError(f"{self.name} gives no class scores. {error}") from None

    @contextmanager
    def _own_errors(self, others: Sequence[Exception]) -> Iterator[None]:
        """Raise whatever the module raises within, but for the errors of `others`, as a `ForwardError`."""
        try:
            yield
        except (DeconvnetError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # a module can raise anything
            if error in others:
                raise
            raise ForwardError(f"{self.name} fails {describe_failure(self.module, error)}.") from error

    def capture_partial(self, x: Tensor, name: str, partial: PartialForward, rules: Rules | None = None) -> Tensor | None:
        """The output of one layer, as `capture` passes it, of a forward pass that `partial` runs in part.

        `x` is what `partial` starts from; the module may change it. None if `partial` ended the pass before the layer.
        """
        captured: list[Tensor] = []

        def on_relu(index: int, output: Tensor) -> bool:
            if index == self.layer(name).index:
                captured.append(as_maps(output))
            return bool(captured)

        with exact_float32():
            run_intercepted(self.module, x, on_relu, rules, partial)
        return captured[0] if captured else None


def as_maps(output: Tensor) -> Tensor:
    """(N, units, rows, columns) as it is, (N, units) with one row and one column."""
    return output if output.dim() == 4 else output[:, :, None, None]
