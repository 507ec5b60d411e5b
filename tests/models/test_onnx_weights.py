"""ONNX files: the zoo's are computed as they say, other spellings are understood, and every difference is refused."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from deconvnet.models import AlexNet2012, AlexNetOptions, ZFNet, ZFNetOptions, load, onnx_weights, registry
from deconvnet.models.pretrained import PRETRAINED
from helpers.loading import refusal
from helpers.onnx_files import GEOMETRY, Op, chain, evaluate, write

#: A contrast normalisation strong enough to be missed, as ONNX has it and as ours.
STRONG = (5, 0.5, 0.6, 1.5)
TOML = """\
resize = 256
crop = 224
channels = "RGB"
scale = 255
mean = [120, 110, 100]
[options]
hidden = 16
middle = [8, 9, 10]
[options.contrast]
n = 5
alpha = 0.5
beta = 0.6
k = 1.5
"""


def randomise(module):
    """Draw weights and biases with which every layer matters."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(part.weight)
            nn.init.uniform_(part.bias, -1, 1)
    return module.eval()


def close(output, expected):
    return np.allclose(output, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.fixture(scope="module")
def small():
    """A ZFNet with few units, and the operations of its ONNX file."""
    torch.manual_seed(0)
    module = randomise(ZFNet(ZFNetOptions(classes=7, hidden=16, middle=(8, 9, 10))))
    return module, chain(module, GEOMETRY["zfnet"], STRONG, norm_first=False)


@pytest.fixture
def ops(small):
    """The operations, to be changed."""
    return [Op(op.type, dict(op.attributes), list(op.tensors)) for op in small[1]]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "a.onnx"


@pytest.fixture
def toml(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text(TOML)
    return file


def nth(ops, op_type, number=1):
    """The position of the n-th operation of a type."""
    return [position for position, op in enumerate(ops) if op.type == op_type][number - 1]


# The zoo's files


@pytest.mark.parametrize(
    ("name", "row", "build", "options", "contrast"),
    [
        ("alexnet2012", "bvlcalexnet-9.onnx", AlexNet2012, AlexNetOptions(classes=7, hidden=16), (5, 1e-4, 0.75, 1.0)),
        (
            "zfnet512",
            "zfnet512-12.onnx",
            ZFNet,
            ZFNetOptions(classes=7, hidden=16, fc7=8, middle=(512, 512, 512)),
            (5, 5e-4, 0.75, 2.0),
        ),
    ],
)
def test_a_file_of_the_zoo_is_recognised_and_computed_as_it_says(monkeypatch, file, name, row, build, options, contrast):
    module = randomise(build(options))
    write(file, chain(module, GEOMETRY[name], contrast)[:-1])
    row = next(published for published in PRETRAINED if published.file == row)
    small = {name: value for name, value in {"hidden": 16, "fc7": 8}.items() if hasattr(options, name)}
    known = {**row.metadata, "classes": None, "options": {**row.metadata["options"], **small}}
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(registry, "PRETRAINED", (replace(row, sha256=digest, metadata=known),))
    network = load(name, file)
    x = 60 * torch.randn(1, 3, network.preprocessing.crop, network.preprocessing.crop)
    with torch.no_grad():
        assert close(network.module(x).numpy(), evaluate(file, x.flip(1)))  # the files expect BGR


def test_at_224_the_zoos_alexnet_has_other_windows_and_is_refused(file, toml):
    module = AlexNet2012(AlexNetOptions(classes=0))
    toml.write_text(TOML.split("[options]")[0])
    write(file, chain(module, GEOMETRY["alexnet2012"], (5, 1e-4, 0.75, 2.0)))
    assert "the max pooling after conv1 with output 26×26, but alexnet2012 has it with 27×27" in refusal(
        "alexnet2012", file, toml
    )
    toml.write_text(toml.read_text().replace("224", "227"))
    assert not load("alexnet2012", file, toml).classifies


def test_a_file_that_nobody_described_is_refused(file, ops):
    write(file, ops)
    assert "does not say what preprocessing its weights expect" in refusal("zfnet", file)


def test_a_difference_says_that_an_option_could_mend_it(file, ops, toml):
    write(file, ops)
    toml.write_text(TOML.replace("alpha = 0.5\n", ""))
    sentence = refusal("zfnet", file, toml)
    assert sentence.startswith(
        f"{file} has the contrast normalisation after conv1 with alpha 0.5, but zfnet has it with 0.0001"
    )
    assert "under [options] of --preprocessing FILE.toml" in sentence


# Other spellings of the same


def spelt(operation, **attributes):
    def change(ops):
        op_type, _, number = operation.partition("#")
        ops[nth(ops, op_type, int(number or 1))].attributes.update(attributes)

    return change


def without_attributes(ops):
    for op in ops:
        if op.type == "Conv":
            op.attributes = {name: value for name, value in op.attributes.items() if value not in (1, [1, 1], [0] * 4)}
            del op.attributes["kernel_shape"]


def gemm_turned(ops):
    op = ops[nth(ops, "Gemm")]
    op.attributes, op.tensors[0] = {}, op.tensors[0].T


def multiplied_and_added(ops):
    position = nth(ops, "Gemm", 2)
    weight, bias = ops[position].tensors
    ops[position : position + 1] = [Op("MatMul", {}, [weight.T]), Op("Add", {}, [bias[None]])]


def flattened(ops):
    ops[nth(ops, "Reshape")] = Op("Flatten")


def to_scores(ops):
    del ops[-1]


def with_nothing_done(ops):
    ops.insert(0, Op("Identity"))
    ops.insert(5, Op("Dropout"))


def as_constants(model):
    graph = model.graph
    constants = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in graph.initializer]
    nodes = [*constants, *graph.node]
    del graph.initializer[:], graph.input[1:], graph.node[:]
    graph.node.extend(nodes)


@pytest.mark.parametrize(
    ("respell", "writing"),
    [
        (lambda ops: None, {}),
        (lambda ops: None, {"listed": False}),
        (lambda ops: None, {"change": as_constants}),
        (without_attributes, {}),
        (spelt("MaxPool", pads=[0] * 4, ceil_mode=1), {"opset": 10}),
        (spelt("MaxPool", pads=[0, 0, 2, 2]), {}),
        (spelt("MaxPool#3", pads=[0, 0, 1, 1]), {}),
        (spelt("Conv", pads=[1, 1, 0, 0]), {}),
        (spelt("Conv#2", pads=[0] * 4, auto_pad="VALID"), {}),
        (spelt("Conv#4", pads=[0] * 4, auto_pad="SAME_UPPER"), {}),
        (spelt("Conv#5", auto_pad="SAME_LOWER"), {}),
        (gemm_turned, {}),
        (multiplied_and_added, {}),
        (flattened, {}),
        (to_scores, {}),
        (with_nothing_done, {}),
    ],
)
def test_the_same_in_other_words_is_the_same(small, ops, file, toml, respell, writing):
    module, _ = small
    respell(ops)
    write(file, ops, **writing)
    network = load("zfnet", file, toml)
    assert network.module.state_dict().keys() == module.state_dict().keys()
    for name, tensor in module.state_dict().items():
        assert torch.equal(network.module.state_dict()[name], tensor), name


def test_a_network_in_the_papers_order_is_computed_as_its_file_says(ops, file, toml):
    write(file, ops[:-1])
    network = load("zfnet", file, toml)
    x = 60 * torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert close(network.module(x).numpy(), evaluate(file, x))


# Differences


def replaced(op_type, number, *by):
    def change(ops):
        position = nth(ops, op_type, number)
        ops[position : position + 1] = by

    return change


def added(op_type, number, *more):
    def change(ops):
        position = nth(ops, op_type, number) + 1
        ops[position:position] = more

    return change


def normalised_before_pooling(ops):
    position = nth(ops, "MaxPool")
    ops[position : position + 2] = ops[position + 1], ops[position]


def split_batches(ops):
    op = ops[nth(ops, "Conv", 2)]
    op.attributes["group"], op.tensors[0] = 2, op.tensors[0][:, :48]


def smaller_kernel(ops):
    op = ops[nth(ops, "Conv", 2)]
    op.attributes["kernel_shape"], op.tensors[0] = [3, 3], op.tensors[0][:, :, 1:4, 1:4]


def without_layer(ops):
    position = nth(ops, "Gemm", 2)
    del ops[position : position + 3]


def another_layer(ops):
    position = nth(ops, "Gemm", 2)
    ops[position:position] = [Op("Gemm", {}, [np.eye(16, dtype=np.float32), np.zeros(16, np.float32)]), Op("Relu")]


def without_bias(ops):
    del ops[nth(ops, "Conv", 3)].tensors[1]


def other_shape(ops):
    for position in (0, 1):
        tensors = ops[nth(ops, "Conv", 3)].tensors
        tensors[position] = tensors[position][:5]


def cut_to(ops):
    del ops[nth(ops, "Gemm", 3) :]


@pytest.mark.parametrize(
    ("change", "saying"),
    [
        (spelt("Conv", pads=[0] * 4), "the convolution conv1 with padding 0×0, but zfnet has it with 1×1"),
        (spelt("Conv", pads=[1, 2, 1, 2]), "conv1 with padding 1×2, but zfnet has it with 1×1"),
        (spelt("Conv", auto_pad="SAME_UPPER"), "conv1 with padding 2×2, but zfnet has it with 1×1"),
        (spelt("Conv#2", auto_pad="SAME_LOWER"), "conv2 with padding 2×2, but zfnet has it with 0×0"),
        (spelt("Conv", strides=[4, 4]), "conv1 with stride 4×4, but zfnet has it with 2×2"),
        (spelt("Conv", strides=[0, 0]), "conv1 with stride 0×0"),
        (spelt("Conv#3", dilations=[2, 2], pads=[2] * 4), "conv3 with dilation 2×2, but zfnet has it with 1×1"),
        (smaller_kernel, "conv2 with kernel 3×3, but zfnet has it with 5×5"),
        (split_batches, "conv2 with groups 2, but zfnet has it with 1"),
        (spelt("MaxPool", kernel_shape=[2, 2]), "max pooling after conv1 with kernel 2×2, but zfnet has it with 3×3"),
        (spelt("MaxPool", strides=[1, 1]), "max pooling after conv1 with stride 1×1"),
        (spelt("MaxPool", pads=[0] * 4), "the max pooling after conv1 with output 54×54, but zfnet has it with 55×55"),
        (spelt("MaxPool#2", pads=[1, 1, 0, 0]), "the max pooling after conv2 with padding 1×1, but zfnet has it with 0×0"),
        (spelt("MaxPool#3", pads=[0, 0, 2, 2]), "the max pooling after conv5 with output 7×7, but zfnet has it with 6×6"),
        (spelt("MaxPool#3", pads=[0, 0, 0, 2]), "with output 6×7, but zfnet has it with 6×6"),
        (
            replaced("MaxPool", 1, Op("AveragePool", {"kernel_shape": [3, 3]})),
            "the AveragePool after conv1 where zfnet has the max",
        ),
        (spelt("LRN", size=3), "the contrast normalisation after conv1 with n 3, but zfnet has it with 5"),
        (spelt("LRN#2", alpha=1e-4), "the contrast normalisation after conv2 with alpha 0.0001, but zfnet has it with 0.5"),
        (spelt("LRN", beta=0.75), "conv1 with beta 0.75, but zfnet has it with 0.6"),
        (spelt("LRN", bias=1.0), "conv1 with k 1, but zfnet has it with 1.5"),
        (replaced("LRN", 2), "the convolution conv3 where zfnet has the contrast normalisation after conv2"),
        (normalised_before_pooling, "the contrast normalisation after conv1 where zfnet has the max pooling after conv1"),
        (replaced("Relu", 3), "the convolution conv4 where zfnet has the ReLU after conv3"),
        (added("Relu", 3, Op("Relu")), "the ReLU after conv3 where zfnet has the convolution conv4"),
        (replaced("Relu", 4, Op("LeakyRelu")), "the LeakyRelu after conv4 where zfnet has the ReLU after conv4"),
        (added("Conv", 3, Op("BatchNormalization", {}, [np.ones(8)] * 4)), "the BatchNormalization after conv3 where"),
        (without_layer, "ends after the full connection fc7, where zfnet goes on with the ReLU after fc7."),
        (another_layer, "goes on with the ReLU after fc8 where zfnet ends, after the full connection fc8."),
        (cut_to, "ends after the ReLU after fc7, where zfnet goes on with the full connection fc8."),
        (without_bias, "lacks layers of zfnet: conv3 (no tensor 'conv3.bias')"),
        (other_shape, "conv3.weight of shape (5, 256, 3, 3), but zfnet has (8, 256, 3, 3)"),
        (spelt("Gemm", alpha=2.0), "the Gemm after conv5 where zfnet has the full connection fc6"),
        (replaced("Relu", 2, Op("Relu", {"domain": "com.example"})), "the 'com.example.Relu' after conv2 where zfnet has"),
        (added("Relu", 6, Op("Softmax")), "the Softmax after fc6 where zfnet has the full connection fc7"),
    ],
)
def test_a_difference_is_refused_with_its_place(ops, file, toml, change, saying):
    change(ops)
    write(file, ops)
    sentence = refusal("zfnet", file, toml)
    assert sentence.startswith(f"{file} ")
    assert saying in sentence


def test_torch_and_onnx_centre_even_normalisations_differently(ops, file, toml):
    spelt("LRN", size=4)(ops)
    spelt("LRN#2", size=4)(ops)
    write(file, ops)
    toml.write_text(TOML.replace("n = 5", "n = 4"))
    assert "conv1 with maps before its own 1, but zfnet has it with 2" in refusal("zfnet", file, toml)


# Files that are no network


def elsewhere(model):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../../etc/passwd"


def with_two_inputs(model):
    model.graph.input.add(name="another")


def with_a_branch(model):
    model.graph.node.append(helper.make_node("Add", ["out_1", model.graph.output[0].name], ["sum"]))


def without_weights(model):
    del model.graph.initializer[2:]
    del model.graph.input[1:]


def with_too_few_numbers(model):
    model.graph.initializer[2].raw_data = b"1234"


def with_an_inner_output(model):
    model.graph.output[0].name = "out_3"


def with_the_weights_first(model):
    node = next(node for node in model.graph.node if node.op_type == "Conv")
    node.input[:] = [node.input[1], node.input[0], node.input[2]]


def without_needed_attributes(model):
    del next(node for node in model.graph.node if node.op_type == "MaxPool").attribute[:]


def with_a_wrong_attribute(model):
    node = next(node for node in model.graph.node if node.op_type == "Conv")
    node.attribute.append(helper.make_attribute("auto_pad", 3))


@pytest.mark.parametrize(
    ("change", "saying"),
    [
        (elsewhere, "keeps its weights in another file, which is not read: save it as one file."),
        (with_two_inputs, "has 2 inputs: a network that takes one photo is needed."),
        (with_a_branch, "is no chain of operations: Add 'sum' does not continue what comes before it."),
        (without_weights, "is no chain of operations: Conv 'out_4' does not continue"),
        (with_too_few_numbers, "is not sound ONNX at Conv 'out_4' ("),
        (with_an_inner_output, "is no chain of operations: its last one, Softmax 'out_23', is not its output."),
        (with_the_weights_first, "is no chain of operations: Conv 'out_0' does not continue what comes before it."),
        (without_needed_attributes, "is not sound ONNX at MaxPool 'out_2' ('kernel_shape')."),
        (with_a_wrong_attribute, "is not sound ONNX at Conv 'out_0' ("),
    ],
)
def test_an_unsound_file_is_refused(ops, file, toml, change, saying):
    write(file, ops, change=change)
    assert saying in refusal("zfnet", file, toml)


@pytest.mark.parametrize("cut", [0, 1, 20, 1000, -1])
def test_a_truncated_file_is_refused(ops, file, toml, cut):
    write(file, ops)
    file.write_bytes(file.read_bytes()[:cut])
    assert f"{file} is not a whole ONNX file" in refusal("zfnet", file, toml)


@pytest.mark.parametrize("contents", [b"weights", b"resize = 256\n" * 99, b"PK\x03\x04", bytes(1000)])
def test_what_is_no_onnx_is_refused(file, toml, contents):
    file.write_bytes(contents)
    assert f"{file} is not a whole ONNX file" in refusal("zfnet", file, toml)


def test_a_file_too_large_for_onnx_is_not_read(monkeypatch, file, toml):
    monkeypatch.setattr(onnx_weights, "_MAX_FILE_SIZE", 100)
    file.write_bytes(bytes(100))
    assert f"{file} is larger than the 2 GiB" in refusal("zfnet", file, toml)


def test_other_networks_do_not_take_onnx(ops, file, toml):
    write(file, ops)
    assert "or .onnx for alexnet2012 and the ZFNets" in refusal("alexnet", file, toml)
    toml.write_text(TOML.replace("middle = [8, 9, 10]\n", ""))
    assert "the convolution conv1 with kernel 7×7, but alexnet2012 has it with 11×11" in refusal("alexnet2012", file, toml)
