"""PyTorch checkpoints: what training scripts write is read, and nothing in them ever runs."""

import pickle
from pathlib import Path

import pytest
import torch

from deconvnet.models import load
from helpers.loading import refusal


def same_weights(network, module):
    found, expected = network.module.state_dict(), module.state_dict()
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def prefixed(state):
    return {f"module.{name}": tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "nested",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3, "arch": "zfnet"},
        lambda state: {"model": state, "args": {"lr": 0.1}},
        prefixed,
        lambda state: {"state_dict": prefixed(state), "best": 0.5},
    ],
    ids=["plain", "state_dict", "model", "data parallel", "data parallel in state_dict"],
)
@pytest.mark.parametrize("suffix", [".pth", ".ckpt"])
def test_a_checkpoint_is_found_inside_what_training_scripts_write(trunk, described, tmp_path, nested, suffix):
    file = tmp_path / f"a{suffix}"
    torch.save(nested(trunk.module.state_dict()), file)
    assert same_weights(load("zfnet", file, described), trunk.module)


def test_a_checkpoint_in_the_old_format_is_read(trunk, described, tmp_path):
    torch.save(trunk.module.state_dict(), tmp_path / "a.pth.tar", _use_new_zipfile_serialization=False)
    assert same_weights(load("zfnet", tmp_path / "a.pth.tar", described), trunk.module)


def test_the_end_of_a_name_may_be_written_in_capitals(trunk, described, tmp_path):
    torch.save(trunk.module.state_dict(), tmp_path / "A.PTH")
    assert same_weights(load("zfnet", tmp_path / "A.PTH", described), trunk.module)


@pytest.mark.parametrize("twin", ["module.conv1.weight", "features.stage1.unit1.conv.weight"])
def test_two_tensors_for_one_place_are_refused(trunk, described, tmp_path, twin):
    state = trunk.module.state_dict()
    torch.save({**state, twin: state["conv1.weight"] + 1}, tmp_path / "a.pth")
    assert "has two tensors for one place of the network" in refusal("zfnet", tmp_path / "a.pth", described)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (torch.Tensor.int, "torch.int32, torch.strided, on cpu"),
        (torch.Tensor.to_sparse, "torch.float32, torch.sparse_coo, on cpu"),
        (lambda tensor: tensor.to("meta"), "torch.float32, torch.strided, on meta"),
        (lambda tensor: tensor.to(torch.complex64), "torch.complex64, torch.strided, on cpu"),
    ],
    ids=["int", "sparse", "meta", "complex"],
)
@pytest.mark.filterwarnings("ignore:.*sparse")  # newer PyTorch warns that it is slow to check one
def test_a_tensor_without_plain_values_is_refused(trunk, described, tmp_path, change, kind):
    state = trunk.module.state_dict()
    torch.save({**state, "conv2.weight": change(state["conv2.weight"])}, tmp_path / "a.pth")
    assert f"has conv2.weight as a tensor ({kind}) that zfnet cannot compute with" in refusal(
        "zfnet", tmp_path / "a.pth", described
    )


def test_a_classifier_that_is_one_number_is_refused(zfnet, described, tmp_path):
    torch.save({**zfnet.module.state_dict(), "fc8.weight": torch.tensor(1.0)}, tmp_path / "a.pth")
    assert "of shape" in refusal("zfnet", tmp_path / "a.pth", described)


class Touch:
    """When unpickled, makes a file: the code that a malicious checkpoint could run."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def plainly_pickled(value, file):
    file.write_bytes(pickle.dumps(value))


@pytest.mark.parametrize("write", [torch.save, plainly_pickled])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(described, tmp_path, write):
    file, touched = tmp_path / "evil.pth", tmp_path / "touched"
    write({"conv1.weight": Touch(touched)}, file)
    assert "is not a PyTorch checkpoint that holds tensors and plain values only" in refusal("zfnet", file, described)
    assert not touched.exists()
    pickle.loads(pickle.dumps(Touch(touched)))
    assert touched.exists()  # so the test would have noticed


def test_a_whole_pickled_module_is_refused(trunk, described, tmp_path):
    torch.save(trunk.module, tmp_path / "module.pt")
    assert "because a pickle can run code" in refusal("zfnet", tmp_path / "module.pt", described)


@pytest.mark.parametrize(
    "contents",
    [{}, [1, 2], 3, {"epoch": 3}, {"state_dict": {}}, {"conv1.weight": torch.zeros(1), "epoch": 3}],
    ids=repr,
)
def test_a_checkpoint_without_state_dictionary_is_refused(described, tmp_path, contents):
    torch.save(contents, tmp_path / "a.pth")
    assert "holds no state dictionary" in refusal("zfnet", tmp_path / "a.pth", described)


@pytest.mark.parametrize("contents", [b"", b"no checkpoint", b"PK\x03\x04 no zip"])
def test_a_broken_checkpoint_is_refused(described, tmp_path, contents):
    (tmp_path / "a.pth").write_bytes(contents)
    assert "is not a PyTorch checkpoint" in refusal("zfnet", tmp_path / "a.pth", described)


def test_a_text_file_is_told_from_a_checkpoint(described, tmp_path):
    (tmp_path / "a.pth").write_text("import torch\n")
    assert "a.pth is not a PyTorch checkpoint, by its first bytes: it is neither a zip archive nor a pickle" in refusal(
        "zfnet", tmp_path / "a.pth", described
    )


def test_a_truncated_checkpoint_is_refused(trunk, described, tmp_path):
    torch.save(trunk.module.state_dict(), tmp_path / "a.pth")
    whole = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(whole[: len(whole) // 2])
    assert "is not a PyTorch checkpoint" in refusal("zfnet", tmp_path / "a.pth", described)
