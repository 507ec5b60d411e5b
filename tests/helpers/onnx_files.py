"""ONNX files written as the model zoo's are, and an evaluator of them that knows nothing of this project."""

from dataclasses import dataclass, field

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun


@dataclass
class Op:
    """One operation of a chain: its type, its attributes, and the tensors that it takes besides the previous output."""

    type: str
    attributes: dict = field(default_factory=dict)
    tensors: list = field(default_factory=list)


#: (kernel of the poolings, their pads, and of conv1 … conv5: stride, pad, groups), as the zoo's files have them.
GEOMETRY = {
    "alexnet2012": ((3, 3, 3), (0, 0, 1), ((4, 0, 1), (1, 2, 2), (1, 1, 1), (1, 1, 2), (1, 1, 2))),
    "zfnet512": ((3, 3, 2), (0, 0, 0), ((2, 0, 1), (2, 0, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1))),
    "zfnet": ((3, 3, 3), (1, 1, 0), ((2, 1, 1), (2, 0, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1))),
}


def chain(module, geometry, lrn, norm_first=True):
    """The operations of a network with the weights of `module`; `lrn` is ONNX's size, alpha, beta, bias."""
    weights = [tensor.detach().numpy() for tensor in module.state_dict().values()]
    layers = list(zip(weights[::2], weights[1::2], strict=True))
    kernels, ends, convolutions = geometry
    ops = []
    for number, (stride, pad, groups) in enumerate(convolutions):
        attributes = {
            "kernel_shape": layers[number][0].shape[2:],
            "strides": [stride] * 2,
            "pads": [pad] * 4,
            "group": groups,
        }
        ops += [Op("Conv", attributes, list(layers[number])), Op("Relu")]
        if number in (0, 1, 4):
            pooling = min(number, 2)
            kernel, end = kernels[pooling], ends[pooling]
            pool = {"kernel_shape": [kernel] * 2, "strides": [2, 2], "pads": [0, 0, end, end]}
            norm_pool = [Op("LRN", dict(zip(("size", "alpha", "beta", "bias"), lrn, strict=True))), Op("MaxPool", pool)]
            ops += norm_pool[1:] if number == 4 else norm_pool if norm_first else norm_pool[::-1]
    if layers[5:]:
        ops.append(Op("Reshape", {}, [np.array([1, -1])]))
    for weight, bias in layers[5:]:
        ops += [Op("Gemm", {"transB": 1}, [weight, bias]), Op("Relu"), Op("Dropout", {"ratio": 0.5})]
    return [*ops[:-2], Op("Softmax")] if layers[5:] else ops


def write(file, ops, opset=9, size=224, listed=True, change=lambda model: None):
    """Write a chain; `listed` lists the weights among the inputs too, as in old files."""
    nodes, tensors, signal = [], [], "data_0"
    for number, op in enumerate(ops):
        names = [f"{number}_{position}" for position in range(len(op.tensors))]
        tensors += [numpy_helper.from_array(np.ascontiguousarray(t), n) for t, n in zip(op.tensors, names, strict=True)]
        nodes.append(helper.make_node(op.type, [signal, *names], [f"out_{number}"], **op.attributes))
        signal = f"out_{number}"
    inputs = [helper.make_tensor_value_info("data_0", TensorProto.FLOAT, [1, 3, size, size])]
    if listed:
        inputs += [helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in tensors]
    outputs = [helper.make_tensor_value_info(signal, TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "chain", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3)
    change(model)
    save(model, file)


class LRN(OpRun):
    """The operator's definition. The evaluator's own (onnx 1.23) loops over images instead of maps."""

    def _run(self, x, alpha=None, beta=None, bias=None, size=None):
        squares = np.zeros_like(x)
        for map in range(x.shape[1]):
            first, last = map - (size - 1) // 2, map + size // 2
            squares[:, map] = (x[:, max(0, first) : last + 1] ** 2).sum(axis=1)
        return (x / (bias + alpha / size * squares) ** beta,)


def evaluate(file, x):
    """What the file computes for `x` (1, 3, H, W)."""
    return ReferenceEvaluator(str(file), new_ops=[LRN]).run(None, {"data_0": x.numpy()})[0]
