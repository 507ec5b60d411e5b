"""ONNX files: weights and, unlike in other files, the operations that use them.

Only a chain of operations is understood, as in AlexNet and its relatives. Names are ignored: the n-th operation with weights
is the n-th layer, and `onnx_check.check_same` compares every operation with the network's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deconvnet.errors import DeconvnetError
from deconvnet.extras import require_extra
from deconvnet.local_response_norm import LRNConstants
from deconvnet.models.onnx_graph_check import (
    CONVOLUTION,
    FLATTEN,
    FULLY_CONNECTED,
    LRN,
    MAX_POOLING,
    RELU,
    Operation,
    Pair,
    WindowSpec,
    check_same,
)

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

#: The size limit of protocol buffers, in bytes.
_MAX_FILE_SIZE = 2**31

#: ONNX's names for alpha, beta and k of local response normalisation, with ONNX's defaults.
_LRN_ATTRIBUTES = (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))


@dataclass(frozen=True)
class OnnxNetwork:
    """The contents of an ONNX file."""

    state: dict[str, Tensor]
    """Weights and biases, named as in our own networks: conv1.weight … fc8.bias."""
    operations: list[Operation]

    def check(self, module: nn.Module, crop: int, source: str, network: str) -> None:
        """Raise `DeconvnetError` if `module` computes something else on (N, 3, crop, crop) than the file does."""
        check_same(self.operations, module, (crop, crop), source, network)


def read_onnx(file: Path) -> OnnxNetwork:
    """Read an ONNX file with all its weights inside it.

    Raises `DeconvnetError` for a file that is not ONNX, keeps its weights in another file, or is no chain of operations.
    """
    require_extra("onnx")
    from google.protobuf.message import DecodeError
    from onnx import ModelProto  # imported here, as it takes a fifth of a second

    try:
        if file.stat().st_size >= _MAX_FILE_SIZE:
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
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:  # an invalid file can raise any of these
        raise DeconvnetError(f"{file} is not sound ONNX at {reader.current} ({error}).") from None
    return OnnxNetwork(reader.state, reader.operations)


class _Reader:
    """Follows the chain of operations from the input to the output."""

    def __init__(self, model: "ModelProto", source: str) -> None:
        self.graph = model.graph
        self.source = source
        self.constants: dict[str, TensorProto | None] = {tensor.name: tensor for tensor in model.graph.initializer}
        self.state: dict[str, Tensor] = {}
        self.operations: list[Operation] = []
        self.layer = ""
        self.layer_count = 0
        self.current = "its input"
        """The node that is being read, for errors."""

    def read(self) -> None:
        """Fill `state` and `operations`."""
        # Old files list the weights among the inputs.
        inputs = [value.name for value in self.graph.input if value.name not in self.constants]
        if len(inputs) != 1:
            raise DeconvnetError(f"{self.source} has {len(inputs)} inputs: a network that takes one photo is needed.")
        signal = inputs[0]
        for node in self.graph.node:
            self.current = f"{node.op_type} {node.name or node.output[0]!r}"
            if node.op_type == "Constant":
                self.constants[node.output[0]] = _attributes(node).get("value")
                continue
            signals = [name for name in node.input if name and name not in self.constants]
            if signals != [signal] or (node.input[0] != signal and node.op_type != "Add"):
                raise DeconvnetError(
                    f"{self.source} is no chain of operations: {self.current} does not continue what comes before it."
                )
            self._read_node(node, _attributes(node))
            signal = node.output[0]
        if signal not in [value.name for value in self.graph.output]:
            raise DeconvnetError(
                f"{self.source} is no chain of operations: its last one, {self.current}, is not its output."
            )
        if self.operations[-1].type == "Softmax":
            self.operations.pop()  # our networks return the scores before it

    def _read_node(self, node: "NodeProto", attributes: Mapping[str, Any]) -> None:
        match node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}":
            case "Conv":
                weight = self._tensor(node.input[1])
                self._add_layer("conv", weight, node.input[2:])
                window = _window({**attributes, "kernel_shape": weight.shape[2:]})
                self.operations.append(Operation(CONVOLUTION, self.layer, window, int(attributes.get("group", 1))))
            case "Gemm" if attributes.get("alpha", 1) == attributes.get("beta", 1) == 1 and not attributes.get("transA", 0):
                weight = self._tensor(node.input[1])
                self._add_layer("fc", weight if attributes.get("transB", 0) else weight.T.contiguous(), node.input[2:])
                self.operations.append(Operation(FULLY_CONNECTED, self.layer))
            case "MatMul":
                self._add_layer("fc", self._tensor(node.input[1]).T.contiguous())
                self.operations.append(Operation(FULLY_CONNECTED, self.layer))
            case "Add" if self._lacks_bias():
                bias = next(name for name in node.input if name in self.constants)
                self.state[f"{self.layer}.bias"] = self._tensor(bias).reshape(-1)
            case "Relu":
                self.operations.append(Operation(RELU, self.layer))
            case "LRN":
                n = int(attributes["size"])
                constants = LRNConstants(n, *(float(attributes.get(name, default)) for name, default in _LRN_ATTRIBUTES))
                # With an even number of maps, ONNX has one more after the map itself, torch one more before it.
                self.operations.append(Operation(LRN, self.layer, lrn_constants=constants, lrn_maps_before=(n - 1) // 2))
            case "MaxPool":
                self.operations.append(Operation(MAX_POOLING, self.layer, _window(attributes)))
            case "Reshape" | "Flatten":  # the result must fit the next layer's weights, which is checked with them
                self.operations.append(Operation(FLATTEN, self.layer))
            case "Dropout" | "Identity":
                pass
            case unknown:
                self.operations.append(Operation(unknown if unknown.isidentifier() else repr(unknown), self.layer))

    def _add_layer(self, prefix: str, weight: Tensor, biases: Sequence[str] = ()) -> None:
        self.layer_count += 1
        self.layer = f"{prefix}{self.layer_count}"
        self.state[f"{self.layer}.weight"] = weight
        for name in biases:
            self.state[f"{self.layer}.bias"] = self._tensor(name).reshape(-1)

    def _lacks_bias(self) -> bool:
        is_after_product = bool(self.operations) and self.operations[-1].type == FULLY_CONNECTED
        return is_after_product and f"{self.layer}.bias" not in self.state

    def _tensor(self, name: str) -> Tensor:
        from onnx import TensorProto, numpy_helper

        tensor = self.constants[name]
        if tensor is None:
            raise ValueError("its weights are no tensor")
        if tensor.data_location == TensorProto.EXTERNAL:
            raise DeconvnetError(f"{self.source} keeps its weights in another file, which is not read: save it as one file.")
        return torch.from_numpy(numpy_helper.to_array(tensor).copy())


def _attributes(node: "NodeProto") -> dict[str, Any]:
    from onnx.helper import get_attribute_value

    return {attribute.name: get_attribute_value(attribute) for attribute in node.attribute}


def _window(attributes: Mapping[str, Any]) -> WindowSpec:
    top, left, bottom, right = map(int, attributes.get("pads") or (0, 0, 0, 0))
    auto_pad = attributes.get("auto_pad", b"NOTSET").decode()
    explicit = auto_pad == "NOTSET"
    return WindowSpec(
        _pair(attributes["kernel_shape"]),
        _pair(attributes.get("strides") or (1, 1)),
        _pair(attributes.get("dilations") or (1, 1)),
        (top, left) if explicit else (0, 0),
        (bottom, right) if explicit else (0, 0),
        ceil=bool(attributes.get("ceil_mode", 0)),
        auto_pad=auto_pad if auto_pad.startswith("SAME") else "",
    )


def _pair(values: Any) -> Pair:
    rows, columns = map(int, values)
    return rows, columns
