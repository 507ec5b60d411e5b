"""Weights files: everything travels along, and what is broken, foreign or dangerous is refused in a sentence."""

import json
import os
from dataclasses import asdict

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from deconvnet.data import Preprocessing
from deconvnet.data.transforms import per_channel
from deconvnet.errors import DeconvnetError
from deconvnet.local_response_norm import LRNConstants
from deconvnet.models import AlexNet2012, AlexNetOptions, Network, ZFNet, ZFNetOptions, load, save_weights
from helpers.loading import refusal


def same_weights(first, second):
    first, second = first.module.state_dict(), second.module.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def saved(trunk, tmp_path):
    """A trunk in this project's own format."""
    file = tmp_path / "saved.safetensors"
    save_weights(trunk, file)
    return file


@pytest.fixture
def bare(trunk, tmp_path):
    """The same trunk as tensors only."""
    file = tmp_path / "bare.safetensors"
    save_file(trunk.module.state_dict(), file)
    return file


# This project's own files


def test_a_network_comes_back_with_all_that_belongs_to_it(zfnet, tmp_path):
    save_weights(zfnet, tmp_path / "a.safetensors")
    found = load("zfnet", tmp_path / "a.safetensors")
    assert same_weights(found, zfnet)
    assert (found.name, found.weights, found.classifies) == ("zfnet", "ten things", True)
    assert found.classes == zfnet.classes
    assert found.module.options == zfnet.module.options
    assert found.digest == zfnet.digest
    assert not found.module.training
    x = torch.randn(2, 3, 224, 224)
    assert torch.equal(found.probabilities(x), zfnet.probabilities(x))


def test_preprocessing_and_options_come_back(tmp_path):
    options = ZFNetOptions(0, 16, (8, 12, 16), LRNConstants(3, 2e-4, 0.5, 1.5), "norm-pool", 0, 2, 8)
    preprocessing = Preprocessing(240, 224, 255.0, per_channel((1.1, 2.2, 3.3)), per_channel((4.4, 5.5, 6.6)))
    save_weights(Network(ZFNet(options), preprocessing, name="zfnet"), tmp_path / "a.safetensors")
    found = load("zfnet", tmp_path / "a.safetensors")
    assert found.module.options == options
    assert (found.preprocessing.resize, found.preprocessing.crop, found.preprocessing.scale) == (240, 224, 255.0)
    assert torch.equal(found.preprocessing.mean, preprocessing.mean)
    assert torch.equal(found.preprocessing.std, preprocessing.std)


def test_a_mean_image_comes_back(tmp_path):
    mean = torch.rand(3, 227, 227)
    preprocessing = Preprocessing(256, 227, 1.0, mean, per_channel((1, 1, 1)))
    network = Network(AlexNet2012(AlexNetOptions(classes=0)), preprocessing, name="alexnet2012")
    save_weights(network, tmp_path / "a.safetensors")
    assert torch.equal(load("alexnet2012", tmp_path / "a.safetensors").preprocessing.mean, mean)


def test_float16_halves_the_file_and_is_computed_in_float32(trunk, saved, tmp_path):
    save_weights(trunk, tmp_path / "half.safetensors", dtype=torch.float16)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.51 * saved.stat().st_size
    found = load("zfnet", tmp_path / "half.safetensors")
    for name, tensor in trunk.module.state_dict().items():
        assert found.module.state_dict()[name].dtype == torch.float32
        assert torch.equal(found.module.state_dict()[name], tensor.half().float())


def test_the_metadata_is_one_entry_of_json(saved):
    with safe_open(saved, framework="pt") as opened:
        metadata = opened.metadata()
    assert list(metadata) == ["deconvnet"]
    entries = json.loads(metadata["deconvnet"])
    assert entries["format"] == 1
    assert (entries["network"], entries["weights"], entries["channels"]) == ("zfnet", "a trunk", "RGB")
    assert entries["options"]["middle"] == [384, 384, 256]
    assert set(load_file(saved)) == {f"conv{n}.{part}" for n in range(1, 6) for part in ("weight", "bias")}


def test_nothing_is_left_beside_a_file_and_a_failed_save_keeps_the_old_one(trunk, saved, monkeypatch):
    assert list(saved.parent.iterdir()) == [saved]
    before = saved.read_bytes()

    def full_disk(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(DeconvnetError, match="cannot be written: no space"):
        save_weights(trunk, saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_description_given_apart_wins_over_the_one_inside(saved, described):
    assert load("zfnet", saved).preprocessing.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert load("zfnet", saved, described).preprocessing.mean.flatten().tolist() == pytest.approx([0.5, 0.4, 0.3])


def test_weights_of_another_network_say_which(saved):
    assert f"{saved} holds weights of zfnet: pass zfnet:{saved}." == refusal("alexnet2012", saved)


def rewritten(saved, change):
    with safe_open(saved, framework="pt") as opened:
        entries = json.loads(opened.metadata()["deconvnet"])
    change(entries)
    save_file(load_file(saved), saved, {"deconvnet": json.dumps(entries)})
    return saved


@pytest.mark.parametrize("format", [2, "1", None])
def test_another_format_number_is_refused(saved, format):
    assert "was written by another version of deconvnet" in refusal(
        "zfnet", rewritten(saved, lambda entries: entries.update(format=format))
    )


def test_a_description_without_format_number_is_refused(saved):
    assert "written by another version" in refusal("zfnet", rewritten(saved, lambda entries: entries.pop("format")))


@pytest.mark.parametrize("text", ["{", "3", "[1]", '"ab"', "null"])
def test_a_description_that_is_no_json_table_is_refused(saved, text):
    save_file(load_file(saved), saved, {"deconvnet": text})
    assert f"The description inside {saved} is not JSON." == refusal("zfnet", saved)


def test_a_description_that_lacks_an_entry_is_refused(saved):
    sentence = refusal("zfnet", rewritten(saved, lambda entries: entries.pop("mean")))
    assert sentence.startswith(f"The description inside {saved} lacks the entry 'mean'")


def test_an_unknown_option_is_refused(saved):
    sentence = refusal("zfnet", rewritten(saved, lambda entries: entries["options"].update(depth=3)))
    assert "has an unknown option 'depth'" in sentence
    sentence = refusal("zfnet", rewritten(saved, lambda entries: entries.update(options={"contrast": {"size": 5}})))
    assert "has an unknown option 'size': there are alpha, beta, k, n" in sentence


def test_an_order_that_does_not_exist_is_refused(saved):
    sentence = refusal("zfnet", rewritten(saved, lambda entries: entries["options"].update(order="pool_norm")))
    assert '"pool-norm" or "norm-pool", not \'pool_norm\'' in sentence


def test_classes_must_be_as_many_as_outputs(zfnet, tmp_path):
    few = Network(zfnet.module, zfnet.preprocessing, name="zfnet", classes=zfnet.classes[:3])
    save_weights(few, tmp_path / "a.safetensors")
    assert "names 3 classes, but its network has 10 outputs" in refusal("zfnet", tmp_path / "a.safetensors")


# Files that need a description


def test_weights_without_description_are_refused_rather_than_guessed(bare):
    sentence = refusal("zfnet", bare)
    assert "does not say what preprocessing its weights expect" in sentence
    assert "--preprocessing FILE.toml" in sentence


def test_a_description_makes_bare_weights_loadable(bare, trunk, described):
    found = load("zfnet", bare, described)
    assert same_weights(found, trunk)
    assert found.weights == "bare.safetensors"
    assert found.preprocessing.mean.flatten().tolist() == pytest.approx([0.5, 0.4, 0.3])


def test_an_option_that_does_not_exist_is_looked_for_where_it_was_said(bare, described):
    described.write_text(described.read_text() + "options = { depth = 3 }\n")
    assert refusal("zfnet", bare, described).startswith(f"{described} has an unknown option 'depth'")
    described.write_text(described.read_text().replace("depth = 3", "contrast = { size = 3 }"))
    assert refusal("zfnet", bare, described).startswith(f"{described} has an unknown option 'size'")


def test_a_description_for_another_network_is_refused(bare, described):
    described.write_text(described.read_text() + 'network = "alexnet"\n')
    assert "holds weights of alexnet" in refusal("zfnet", bare, described)


def test_a_trunk_cannot_classify(bare, described):
    found = load("zfnet", bare, described)
    assert not found.classifies
    assert found.classes is None
    assert list(found.layers) == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    with pytest.raises(DeconvnetError, match=r"zfnet \(bare.safetensors\) has no classifier"):
        found.probabilities(torch.zeros(1, 3, 224, 224))


def test_the_number_of_classes_is_read_from_the_last_layer(zfnet, described, tmp_path):
    save_file(zfnet.module.state_dict(), tmp_path / "a.safetensors")
    described.write_text(described.read_text() + "options = { hidden = 16 }\n")
    found = load("zfnet", tmp_path / "a.safetensors", described)
    assert found.classifies
    assert found.probabilities(torch.zeros(1, 3, 224, 224)).shape == (1, 10)


def test_bgr_weights_compute_what_reversed_channels_compute(photo, tmp_path):
    options = AlexNetOptions(classes=0)
    module = AlexNet2012(options).eval()
    save_file(module.state_dict(), tmp_path / "a.safetensors")
    (tmp_path / "d.toml").write_text('resize = 256\ncrop = 227\nchannels = "BGR"\nscale = 255\nmean = [104, 117, 123]\n')
    found = load("alexnet2012", tmp_path / "a.safetensors", tmp_path / "d.toml")

    blue_green_red = np.array(found.preprocessing.view(photo), dtype=np.float32)[:, :, ::-1] - np.float32([104, 117, 123])
    by_hand = module.conv1(torch.from_numpy(blue_green_red.transpose(2, 0, 1).copy())[None]).relu()
    ours = found.activations(found.preprocess(photo)[None], "conv1")
    assert by_hand.max() > 1
    assert torch.allclose(ours, by_hand, atol=1e-3)
    assert torch.equal(found.filters, module.conv1.weight.flip(1))
    assert torch.equal(found.module.conv2.weight, module.conv2.weight)


# Files that do not fit


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_a_truncated_safetensors_file_is_refused(saved, length):
    saved.write_bytes(saved.read_bytes()[:length])
    assert f"{saved} is not a whole safetensors file" in refusal("zfnet", saved)


def test_a_missing_file_is_named(tmp_path):
    assert refusal("zfnet", tmp_path / "a.safetensors") == f"There is no file {tmp_path / 'a.safetensors'}."


def test_a_folder_is_no_weights_file(tmp_path):
    assert refusal("zfnet", tmp_path) == f"{tmp_path} cannot be read: Is a directory."


@pytest.mark.parametrize("name", ["a.h5", "a.caffemodel", "a"])
def test_other_kinds_of_file_are_refused_with_those_that_are_read(tmp_path, name):
    (tmp_path / name).write_bytes(b"weights")
    sentence = refusal("zfnet", tmp_path / name)
    assert "is not a kind of weights file that can be read" in sentence
    assert ".safetensors, .bin, .ckpt, .pt, .pth, .tar" in sentence


def test_a_wrong_shape_is_named_with_both_shapes(trunk, described, tmp_path):
    state = trunk.module.state_dict()
    state["conv3.weight"] = torch.zeros(512, 256, 3, 3)
    save_file(state, tmp_path / "a.safetensors")
    sentence = refusal("zfnet", tmp_path / "a.safetensors", described)
    assert "has conv3.weight of shape (512, 256, 3, 3), but zfnet has (384, 256, 3, 3)" in sentence


def test_another_networks_bare_trunk_is_refused(bare, described):
    sentence = refusal("alexnet2012", bare, described)
    assert "has conv1.weight of shape (96, 3, 7, 7), but alexnet2012 has (96, 3, 11, 11)" in sentence


def test_missing_layers_are_listed(zfnet, described, tmp_path):
    state = zfnet.module.state_dict()
    for name in ("conv2.weight", "conv4.weight", "conv4.bias"):
        del state[name]
    save_file(state, tmp_path / "a.safetensors")
    sentence = refusal("zfnet", tmp_path / "a.safetensors", described)
    assert "lacks layers of zfnet: conv2, conv4 (no tensor 'conv2.weight')" in sentence


def test_a_classifier_in_part_is_not_taken_for_a_trunk(zfnet, described, tmp_path):
    state = {name: tensor for name, tensor in zfnet.module.state_dict().items() if not name.startswith("fc8")}
    save_file(state, tmp_path / "a.safetensors")
    assert "lacks layers of zfnet: fc8" in refusal("zfnet", tmp_path / "a.safetensors", described)


def test_an_unknown_tensor_is_named(trunk, described, tmp_path):
    save_file({**trunk.module.state_dict(), "bn1.weight": torch.ones(96)}, tmp_path / "a.safetensors")
    sentence = refusal("zfnet", tmp_path / "a.safetensors", described)
    assert "has a tensor 'bn1.weight' that zfnet does not have" in sentence


def test_loading_does_not_disturb_the_callers_random_numbers(saved):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load("zfnet", saved)
    assert torch.equal(torch.rand(3), expected)


# The real trunk


@pytest.mark.data
def test_the_bvlc_trunk_is_recognised(data):
    found = load("alexnet2012", data / "bvlc_alexnet_trunk.safetensors")
    assert not found.classifies
    assert asdict(found.module.options.contrast) == {"n": 5, "alpha": 1e-4, "beta": 0.75, "k": 1.0}
    assert found.preprocessing.mean.flatten().tolist() == [123, 117, 104]  # RGB
    with pytest.raises(DeconvnetError, match="has no classifier"):
        found.probabilities(torch.zeros(1, 3, 227, 227))


@pytest.mark.data
def test_the_bvlc_trunks_filters_are_turned_to_rgb(data):
    found = load("alexnet2012", data / "bvlc_alexnet_trunk.safetensors")
    blue_green_red = load_file(data / "bvlc_alexnet_trunk.safetensors")["conv1.weight"].float()
    assert torch.equal(found.filters, blue_green_red.flip(1))
    assert not torch.equal(found.filters, blue_green_red)


@pytest.mark.data
def test_the_bvlc_trunk_under_another_name_is_still_recognised(data, tmp_path):
    copy = tmp_path / "renamed.safetensors"
    copy.write_bytes((data / "bvlc_alexnet_trunk.safetensors").read_bytes())
    assert load("alexnet2012", copy).weights.startswith("BVLC AlexNet")
    assert "holds weights of alexnet2012, not of zfnet" in refusal("zfnet", copy)
