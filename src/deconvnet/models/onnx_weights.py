"""ONNX files: weights and, unlike in other files, an account of what is computed with them.

Only a chain of operations is understood, which is what AlexNet and its relatives are. Names mean nothing: the n-th
operation with weights is the n-th layer, and `steps.check_same` compares every operation with the network's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deconvnet.errors import DeconvnetError
from deconvnet.local_response_norm import LRNConstants
from deconvnet.models import onnx_check as steps
from deconvnet.models.onnx_check import (
    Pair,
    Step,
    Window,
    check_same,
    module_steps,
)

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

_LARGEST = 2**31
"""Protocol buffers end here."""


@dataclass(frozen=True)
class OnnxNetwork:
    """What an ONNX file holds."""

    state: dict[str, Tensor]
    """Weights and biases, named as our own networks name them: conv1.weight … fc8.bias."""
    steps: list[Step]

    def check(self, module: nn.Module, crop: int, source: str, network: str) -> None:
        """Raise `DeconvnetError` if `module` computes something else on (N, 3, crop, crop) than the file does."""
        check_same(self.steps, module_steps(module), (crop, crop), source, network)


def read_onnx(file: Path) -> OnnxNetwork:
    """Read an ONNX file whose weights are all inside it.

    Raises `DeconvnetError` for what is no ONNX file, keeps its weights elsewhere, or is no chain of operations.
    """
    from google.protobuf.message import DecodeError
    from onnx import ModelProto  # a fifth of a second that only ONNX files are worth

    try:
        if file.stat().st_size >= _LARGEST:
            raise DeconvnetError(f"{file} is larger than the 2 GiB that an ONNX file can have.")
        model = ModelProto.FromString(file.read_bytes())
    except OSError as error:
        raise DeconvnetError(f"{file} cannot be read: {error.strerror}.") from None
    except DecodeError:
        raise DeconvnetError(f"{file} is not a whole ONNX file.") from None
    if not model.graph.node:
        raise DeconvnetError(f"{file} is not a whole ONNX file: it holds no operations.")
    reader = _Reader(model, str(file))
    try:
        reader.read()
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:  # whatever an unsound file leads to
        raise DeconvnetError(f"{file} is not sound ONNX at {reader.at} ({error}).") from None
    return OnnxNetwork(reader.state, reader.steps)


class _Reader:
    """Follows the one path from the input to the output."""

    def __init__(self, model: "ModelProto", source: str) -> None:
        self.graph = model.graph
        self.source = source
        self.constants: dict[str, TensorProto | None] = {tensor.name: tensor for tensor in model.graph.initializer}
        self.state: dict[str, Tensor] = {}
        self.steps: list[Step] = []
        self.layer = ""
        self.layers = 0
        self.at = "its input"

    def read(self) -> None:
        # Old files list the weights among the inputs.
        inputs = [value.name for value in self.graph.input if value.name not in self.constants]
        if len(inputs) != 1:
            raise DeconvnetError(f"{self.source} has {len(inputs)} inputs: a network that takes one photo is needed.")
        here = inputs[0]
        for node in self.graph.node:
            self.at = f"{node.op_type} {node.name or node.output[0]!r}"
            if node.op_type == "Constant":
                self.constants[node.output[0]] = _attributes(node).get("value")
                continue
            given = [name for name in node.input if name and name not in self.constants]
            if given != [here] or (node.input[0] != here and node.op_type != "Add"):
                raise DeconvnetError(
                    f"{self.source} is no chain of operations: {self.at} does not continue what comes before it."
                )
            self._follow(node, _attributes(node))
            here = node.output[0]
        if here not in [value.name for value in self.graph.output]:
            raise DeconvnetError(f"{self.source} is no chain of operations: its last one, {self.at}, is not its output.")
        if self.steps[-1].kind == "Softmax":
            self.steps.pop()  # a network gives the scores before it

    def _follow(self, node: "NodeProto", attributes: Mapping[str, Any]) -> None:
        match node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}":
            case "Conv":
                weight = self._tensor(node.input[1])
                self._name("conv", weight, node.input[2:])
                window = _window({**attributes, "kernel_shape": weight.shape[2:]})
                self.steps.append(Step(steps.CONVOLUTION, self.layer, window, int(attributes.get("group", 1))))
            case "Gemm" if attributes.get("alpha", 1) == attributes.get("beta", 1) == 1 and not attributes.get("transA", 0):
                weight = self._tensor(node.input[1])
                self._name("fc", weight if attributes.get("transB", 0) else weight.T.contiguous(), node.input[2:])
                self.steps.append(Step(steps.CONNECTION, self.layer))
            case "MatMul":
                self._name("fc", self._tensor(node.input[1]).T.contiguous())
                self.steps.append(Step(steps.CONNECTION, self.layer))
            case "Add" if self._lacks_bias():
                bias = next(name for name in node.input if name in self.constants)
                self.state[f"{self.layer}.bias"] = self._tensor(bias).reshape(-1)
            case "Relu":
                self.steps.append(Step(steps.RELU, self.layer))
            case "LRN":
                n = int(attributes["size"])
                constants = LRNConstants(n, *(float(attributes.get(name, default)) for name, default in _CONTRAST))
                # Of an even number of maps, ONNX takes the odd one after, torch before.
                self.steps.append(Step(steps.CONTRAST, self.layer, contrast=constants, maps_before=(n - 1) // 2))
            case "MaxPool":
                self.steps.append(Step(steps.POOLING, self.layer, _window(attributes)))
            case "Reshape" | "Flatten":  # what it makes must fit the next layer's weights
                self.steps.append(Step(steps.FLATTENING, self.layer))
            case "Dropout" | "Identity":
                pass
            case other:
                self.steps.append(Step(other if other.isidentifier() else repr(other), self.layer))

    def _lacks_bias(self) -> bool:
        return bool(self.steps) and self.steps[-1].kind == steps.CONNECTION and f"{self.layer}.bias" not in self.state

    def _name(self, kind: str, weight: Tensor, bias: Sequence[str] = ()) -> None:
        self.layers += 1
        self.layer = f"{kind}{self.layers}"
        self.state[f"{self.layer}.weight"] = weight
        for name in bias:
            self.state[f"{self.layer}.bias"] = self._tensor(name).reshape(-1)

    def _tensor(self, name: str) -> Tensor:
        from onnx import TensorProto, numpy_helper

        tensor = self.constants[name]
        if tensor is None:
            raise ValueError("its weights are no tensor")
        if tensor.data_location == TensorProto.EXTERNAL:
            raise DeconvnetError(f"{self.source} keeps its weights in another file, which is not read: save it as one file.")
        return torch.from_numpy(numpy_helper.to_array(tensor).copy())


_CONTRAST = (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
"""ONNX's names of our alpha, beta and k, and what it takes for them if nothing is said."""


def _attributes(node: "NodeProto") -> dict[str, Any]:
    from onnx.helper import get_attribute_value

    return {attribute.name: get_attribute_value(attribute) for attribute in node.attribute}


def _window(attributes: Mapping[str, Any]) -> Window:
    top, left, bottom, right = map(int, attributes.get("pads") or (0, 0, 0, 0))
    automatic = attributes.get("auto_pad", b"NOTSET").decode()
    padded = automatic == "NOTSET"
    return Window(
        _pair(attributes["kernel_shape"]),
        _pair(attributes.get("strides") or (1, 1)),
        _pair(attributes.get("dilations") or (1, 1)),
        (top, left) if padded else (0, 0),
        (bottom, right) if padded else (0, 0),
        ceil=bool(attributes.get("ceil_mode", 0)),
        same=automatic if automatic.startswith("SAME") else "",
    )


def _pair(values: Any) -> Pair:
    rows, columns = map(int, values)
    return rows, columns
