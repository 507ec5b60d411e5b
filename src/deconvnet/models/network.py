"""A convnet ready to be looked at."""

import copy
import hashlib
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Self

import torch
from PIL import Image
from torch import Tensor, nn

from deconvnet.data.transforms import Preprocessing
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.models.alexnet import AlexNet2012
from deconvnet.models.zfnet import ZFNet
from deconvnet.tracing import (
    ActivationCache,
    Cone,
    CroppedForward,
    Filters,
    IncrementalForward,
    Layer,
    Rules,
    Trace,
    TraceMismatch,
    cone,
    evaluation_mode,
    exact_float32,
    filters,
    paste,
    run_intercepted,
    trace,
)

#: An atlas has a folder for each layer, beside folders and files of its own.
_UNFIT = re.compile(r"[/\\\0]|^\.*\Z|^(images|classes|pages)\Z|\.(csv|html|json|np[yz]|png)\Z", re.IGNORECASE)


class CannotRun(DeconvnetError):
    """A module that fails on inputs of the size that its preprocessing gives."""


class Network:
    """A module with its preprocessing, its named layers, its class names and where its weights came from.

    The module itself is never changed. It must take (N, 3, crop, crop), RGB, normalised by `preprocessing`. Its layers are
    what its ReLUs put out, before pooling (as in Fig. 2), found by watching one forward pass when they are first asked for.

    Raises `UsageError` for a module or a preprocessing that is none. `layers`, and what needs them, raises `DeconvnetError`
    for a module that cannot be run on inputs of its size or has no ReLU, and `UsageError` for layer names that do not fit.
    """

    #: What `load` makes this network of, with an absolute path if it is a file; empty if `load` did not make it.
    address: str = ""

    def __init__(
        self,
        module: nn.Module,
        preprocessing: Preprocessing,
        *,
        name: str = "network",
        weights: str = "",
        layer_names: Sequence[str] | None = None,
        classes: Sequence[tuple[str, str]] | None = None,
        classifies: bool = True,
    ) -> None:
        """`weights` says in a few words where they are from; `layer_names` renames the layers in the order in which they
        run (default: conv1, conv2 … for our own modules, module paths for others); `classes` are (WordNet id or "", name)
        of each output; `classifies` is False for a trunk, whose output is no class scores.
        """
        if not isinstance(module, nn.Module):
            raise UsageError(f"A network needs a torch.nn.Module, such as torchvision.models.resnet18(), not {module!r}.")
        if not isinstance(preprocessing, Preprocessing):
            raise UsageError(
                "A network needs the Preprocessing that its weights were trained with, such as torchvision_preprocessing(), "
                f"not {preprocessing!r}."
            )
        self.module = module
        self.preprocessing = preprocessing
        """What a photo goes through before the module is shown it."""
        self.name = name
        self.weights = weights
        self.classes = None if classes is None else tuple(classes)
        self.classifies = classifies
        own = module.layer_names if isinstance(module, AlexNet2012 | ZFNet) else None
        self._layer_names = layer_names or own
        self._cones: dict[str, Cone | None] = {}
        self._warned = False

    @property
    def full_name(self) -> str:
        """Name and weights, as they stand on every figure."""
        return f"{self.name} ({self.weights})" if self.weights else self.name

    def __repr__(self) -> str:
        return f"<Network {self.full_name}: {', '.join(self.layers)}>"

    @cached_property
    def _trace(self) -> Trace:
        size = self.preprocessing.crop
        try:
            return trace(self.module, torch.zeros(1, 3, size, size, device=self.device, dtype=self.dtype))
        except DeconvnetError:
            raise
        except Exception as error:  # whatever a module raises
            reason = next(iter(str(error).splitlines()), "").rstrip(".")
            raise CannotRun(
                f"{self.name} cannot be run on 3×{size}×{size} pixels, as its preprocessing gives them "
                f"({type(error).__name__}: {reason})."
            ) from error

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """The layers in the order in which they run, by name."""
        found = self._trace.layers
        names = self._layer_names or [layer.name for layer in found]
        if len(names) != len(found) or len(set(names)) != len(names):
            own = ", ".join(layer.name for layer in found)
            raise UsageError(f"{self.name} needs {len(found)} different layer names, one for each of {own}.")
        unfit = [name for name in names if _UNFIT.search(name)]
        if unfit:
            raise UsageError(
                f"A layer cannot be called {unfit[0]!r}, which has a meaning of its own in an atlas: give other layer_names."
            )
        return {name: replace(layer, name=name) for name, layer in zip(names, found, strict=True)}

    @property
    def convolutional_layers(self) -> list[str]:
        """Names of the layers that have feature maps."""
        return [name for name, layer in self.layers.items() if layer.convolutional]

    @property
    def filters(self) -> Tensor | None:
        """The first layer's filters (units, 3, rows, columns), RGB; None if that layer is not a plain convolution."""
        first = next(iter(self.layers.values()))
        found = self.layer_filters(first.name)
        whole = (first.units, 3, *first.field.size)
        return found.weights if found is not None and found.lowest and found.weights.shape == whole else None

    def layer_filters(self, name: str) -> Filters | None:
        """The filters of a layer; None if it is made by more than one convolution or product."""
        return filters(self._trace, self.layer(name).index)

    def layer(self, name: str) -> Layer:
        """The layer called `name`. Raises `UsageError`, which lists the layers, if there is none."""
        try:
            return self.layers[name]
        except KeyError:
            raise UsageError(f"{self.name} has no layer {name!r}; its layers are {', '.join(self.layers)}.") from None

    def cone(self, name: str) -> Cone | None:
        """What one activation of the layer depends on, or None if that cannot be cut out of the network."""
        if name not in self._cones:
            self._cones[name] = cone(self._trace, self.layer(name).index)
        return self._cones[name]

    def warn_without_rule(self, name: str) -> None:
        """Warn, once, if the way down from the layer passes functions that the paper has no rule for."""
        functions = self._trace.functions_without_rule(self.layer(name).index)
        if functions and not self._warned:
            self._warned = True
            warnings.warn(
                f"The way down from {name} of {self.full_name} passes gates or the like ({', '.join(functions)}), for which "
                "the paper has no rule: their gradient is used.",
                stacklevel=3,
            )

    @property
    def device(self) -> torch.device:
        """Where the module's weights are."""
        return next(self.module.parameters(), torch.empty(0)).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the module's weights, and so of activations and projections."""
        return next(self.module.parameters(), torch.empty(0)).dtype

    def to(self, device: torch.device | str) -> Self:
        """Move the module; returns the network."""
        self.module.to(device)
        return self

    @property
    def digest(self) -> str:
        """SHA-256 over the names and values of the module's weights and buffers."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.module.state_dict().items()):
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def preprocess(self, photo: Image.Image) -> Tensor:
        """A photo as this network's input, (3, crop, crop) float32 on the CPU; add `[None]` for a batch of one.

        Raises `UsageError` for what is no picture of PIL.
        """
        if not isinstance(photo, Image.Image):
            raise UsageError(f"A photo is a picture of PIL, as deconvnet.data.read_image(file) makes one, not {photo!r}.")
        return self.preprocessing(photo)

    def capture(
        self,
        x: Tensor,
        layers: Iterable[str],
        callback: Callable[[str, Tensor], None],
        rules: Rules | None = None,
        cut: CroppedForward | None = None,
    ) -> None:
        """One forward pass over `x` (N, 3, crop, crop), no further than the last of `layers`.

        `callback(name, maps)` is called as each layer goes by, with its output as (N, units, rows, columns); rows = columns = 1
        for a fully connected layer. Use the maps at once or copy them: the module may overwrite them. With `cut`, `x` are
        its windows, and the maps of its layer have one place.
        """
        wanted = {self.layer(name).index: name for name in layers}
        if not wanted:
            return
        last, seen = max(wanted), 0

        def pass_by(index: int, output: Tensor) -> bool:
            nonlocal seen
            if index in wanted:
                maps = output if output.dim() == 4 else output[:, :, None, None]
                layer = self.layers[wanted[index]]
                if cut is None and tuple(maps.shape) != (len(x), layer.units, *layer.map_size):
                    raise DeconvnetError(
                        f"{layer.name} of {self.name} gives a tensor of shape {tuple(output.shape)} for {len(x)} images, "
                        "which is not what it was when the layers were found: a network has to do the same in every pass."
                    )
                callback(layer.name, maps)
                seen += 1
            return index == last

        if cut is None:
            self.check_input(x)
        with exact_float32():
            run_intercepted(self.module, self._own(x), pass_by, rules, cut)
        if seen < len(wanted):
            raise DeconvnetError(f"{self.name} did not come by all its layers: it has to do the same in every pass.")

    def activation_cache(self, x: Tensor) -> ActivationCache | None:
        """What one input (1, 3, crop, crop) makes of every signal, for `versions`; None if that cannot be kept, or would not
        pay: on a GPU the many small copies cost more than the work that they save.
        """
        self.check_input(x)
        if self._own(x[:0]).device.type != "cpu":
            return None
        try:
            with exact_float32():
                return ActivationCache(self._trace, self.module, self._own(x))
        except TraceMismatch:
            return None

    def forward_patched(
        self,
        x: Tensor,
        unchanged: ActivationCache | None,
        windows: Tensor,
        corners: Tensor,
        layers: Iterable[str] = (),
        callback: Callable[[str, Tensor], None] = lambda name, maps: None,
    ) -> Tensor:
        """The module's output for versions of the input x (1, 3, crop, crop): `windows` (N, 3, h, w) at `corners` (N, 2).

        `unchanged` is what the method of this name made of `x`; with it only what can differ is computed, which is the same
        up to rounding. `callback` is called as by `observe`, with whole maps.
        """
        names = {self.layer(name).index: name for name in layers}
        if unchanged is not None and unchanged.usable:
            seen: dict[str, Tensor] = {}
            patched = IncrementalForward(unchanged, corners, (windows.shape[2], windows.shape[3]))

            def keep(index: int, output: Tensor) -> bool:
                if index in names:
                    seen[names[index]] = patched.whole(output).clone()
                return False

            try:
                with torch.inference_mode(), exact_float32():
                    output = run_intercepted(self.module, self._own(windows), keep, cut=patched)
                    assert output is not None  # it has not been stopped
                    output = patched.whole(output)
            except (TraceMismatch, RuntimeError, TypeError, ValueError, LookupError, AttributeError):
                unchanged.usable = False  # whatever a module makes of cut-outs, what it makes of whole images decides
            else:
                for name, maps in seen.items():
                    callback(name, maps if maps.dim() == 4 else maps[:, :, None, None])
                return output
        whole = self._own(x).repeat(len(windows), 1, 1, 1)
        paste(whole, self._own(windows), corners)

        def see(index: int, output: Tensor) -> bool:
            if index in names:
                callback(names[index], output if output.dim() == 4 else output[:, :, None, None])
            return False

        with torch.inference_mode(), exact_float32():
            result = run_intercepted(self.module, whole, see)
        assert result is not None  # it has not been stopped
        return result

    def activations(self, x: Tensor, layer: str) -> Tensor:
        """The output of a layer for `x` (N, 3, crop, crop): (N, units, rows, columns), or (N, units) if fully connected.

        After the ReLU, so never negative. Raises `UsageError` for an unknown layer or inputs of another shape.
        """
        kept: list[Tensor] = []
        with torch.no_grad():
            self.capture(x, [layer], lambda _, maps: kept.append(maps.clone()))
        return kept[0] if self.layer(layer).convolutional else kept[0][:, :, 0, 0]

    def probabilities(self, x: Tensor) -> Tensor:
        """The softmax of the module's output for `x` (N, 3, crop, crop): (N, classes) float32, each row summing to 1.

        Raises `DeconvnetError` for a trunk, which has no classifier.
        """
        if not self.classifies:
            raise DeconvnetError(f"{self.full_name} has no classifier, so it cannot say what is in a photo.")
        return self.output(x).float().softmax(dim=1)

    def output(self, x: Tensor) -> Tensor:
        """What the module returns for `x` (N, 3, crop, crop): of a classifier the scores (N, classes) before the softmax."""
        self.check_input(x)
        with torch.no_grad(), evaluation_mode(self.module), exact_float32():
            output: Tensor = self.module(self._own(x))
        return output

    def around(self, module: nn.Module) -> Self:
        """The same network around another module that does the same."""
        other = copy.copy(self)
        other.module = module
        return other

    def _own(self, x: Tensor) -> Tensor:
        # A copy, as a module may work on its input in place. On a CPU convolutions are fastest in this layout.
        layout = torch.channels_last if self.device.type == "cpu" else torch.preserve_format
        return x.to(self.device, self.dtype, copy=True, memory_format=layout)

    def check_input(self, x: Tensor) -> None:
        """Raise `UsageError` if `x` is not of the shape (N, 3, crop, crop)."""
        size = self.preprocessing.crop
        if x.dim() != 4 or tuple(x.shape[1:]) != (3, size, size):
            raise UsageError(
                f"{self.name} takes a tensor of shape (N, 3, {size}, {size}), not {tuple(x.shape)}: "
                "network.preprocess(photo)[None] makes one from a photo."
            )
