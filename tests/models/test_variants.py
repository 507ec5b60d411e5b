"""Table 3's variants of both networks: what is left out, what takes its place, and that files and layers follow."""

import pytest
import torch
from safetensors.torch import save_file

from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.experiments.look import look
from deconvnet.models import (
    ARCHITECTURES,
    AlexNet2012,
    AlexNetOptions,
    Network,
    ZFNet,
    ZFNetOptions,
    build_untrained,
    load,
    save_weights,
)
from deconvnet.models.weights_metadata import check_options
from deconvnet.projection import project

CONVOLUTIONS = ["conv1", "conv2", "conv3", "conv4", "conv5"]
KEPT = {
    (): [*CONVOLUTIONS, "fc6", "fc7"],
    (3, 4): ["conv1", "conv2", "conv5", "fc6", "fc7"],
    (3,): ["conv1", "conv2", "conv4", "conv5", "fc6", "fc7"],
    (4,): ["conv1", "conv2", "conv3", "conv5", "fc6", "fc7"],
    (6,): [*CONVOLUTIONS, "fc7"],
    (7,): [*CONVOLUTIONS, "fc6"],
    (6, 7): CONVOLUTIONS,
    (3, 4, 6, 7): ["conv1", "conv2", "conv5"],
}
both = pytest.mark.parametrize("name", ["alexnet2012", "zfnet"])
all_removals = pytest.mark.parametrize("removed", KEPT, ids=str)


def excited(net):
    """The network with weights that keep signals alive."""
    for name, tensor in net.module.named_parameters():
        if name.endswith("weight"):
            torch.nn.init.kaiming_normal_(tensor)
    return net


@both
@all_removals
def test_layers_keep_the_papers_numbers_and_what_is_removed_is_nowhere(name, removed):
    with torch.device("meta"):
        net = build_untrained(name, {"removed": removed})
        assert list(net.layers) == KEPT[removed]
    expected = {f"{layer}.{kind}" for layer in [*KEPT[removed], "fc8"] for kind in ("weight", "bias")}
    assert set(net.module.state_dict()) == expected


@both
@all_removals
def test_each_layer_computes_what_its_own_weights_say(name, removed):
    """A layer under a wrong name, left out or run twice, would answer to other weights."""
    net = excited(build_untrained(name, {"removed": removed, "hidden": 8, "classes": 3}))
    m, x = net.module, torch.randn(1, 3, net.preprocessing.crop, net.preprocessing.crop)
    with torch.no_grad():
        y, found = x, {}
        for layer in KEPT[removed]:
            part = m.get_submodule(layer)
            if layer.startswith("fc"):
                y = y.flatten(1)
            y = found[layer] = part(y).clamp(min=0)
            if layer in ("conv1", "conv2"):
                y = m.pool(m.norm(y)) if name == "alexnet2012" else m.norm(m.pool(y))
            elif layer == "conv5":
                y = m.pool(y)
        scores = m.fc8(y.flatten(1))
        for layer, expected in found.items():
            torch.testing.assert_close(net.activations(x, layer), expected, rtol=1e-4, atol=1e-4 * expected.max().item())
        torch.testing.assert_close(m(x), scores, rtol=1e-4, atol=1e-4 * scores.abs().max().item())


@both
@pytest.mark.parametrize("removed", [(3, 4), (7,), (6, 7), (3, 4, 6, 7)], ids=str)
def test_a_variant_is_saved_loaded_and_looked_at(name, removed, photo, tmp_path):
    net = excited(build_untrained(name, {"removed": removed, "hidden": 8, "classes": 3}))
    save_weights(net, tmp_path / "a.safetensors")
    found = load(name, tmp_path / "a.safetensors")
    assert found.module.options == net.module.options
    assert (found.digest, found.classifies, list(found.layers)) == (net.digest, True, KEPT[removed])
    assert list(look(found, photo, units=1).layers) == KEPT[removed]
    x = found.preprocess(photo)[None]
    assert project(found, x, layer="conv5", unit=0).shape == x.shape


def test_the_trunk_of_a_variant_is_one(tmp_path):
    net = Network(ZFNet(ZFNetOptions(classes=0, removed=(3, 4, 6, 7))), ARCHITECTURES["zfnet"].preprocessing)
    save_weights(net, tmp_path / "a.safetensors")
    found = load("zfnet", tmp_path / "a.safetensors")
    assert (found.classifies, list(found.layers)) == (False, ["conv1", "conv2", "conv5"])


def test_weights_of_another_variant_are_refused(tmp_path):
    described = 'resize = 256\ncrop = 224\nchannels = "RGB"\nscale = 1\nmean = 0\n[options]\nhidden = 8\nremoved = [3, 4]\n'
    (tmp_path / "a.toml").write_text(described)
    save_file(ZFNet(ZFNetOptions(classes=3, hidden=8)).state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(DeconvnetError, match=r"a tensor 'conv[34]\.\w+' that zfnet does not have"):
        load("zfnet", tmp_path / "a.safetensors", tmp_path / "a.toml")


def test_without_layers_3_and_4_the_last_convolution_keeps_its_two_groups():
    with torch.device("meta"):
        assert AlexNet2012(AlexNetOptions(removed=(3, 4))).conv5.weight.shape == (256, 128, 3, 3)


def test_dropout_goes_with_its_layer():
    module, calls = ZFNet(ZFNetOptions(classes=2, hidden=8, removed=(7,))), []
    module.dropout.register_forward_hook(lambda part, given, output: calls.append(output.shape))
    module.train()(torch.rand(1, 3, 224, 224))
    assert calls == [(1, 8)]


@pytest.mark.parametrize("options", [AlexNetOptions, ZFNetOptions])
@pytest.mark.parametrize("layer", [0, 1, 2, 5, 8, "3"])
def test_other_layers_cannot_be_removed(options, layer):
    with pytest.raises(UsageError, match=f"Layers 3, 4, 6 and 7 can be removed, not {layer!r}"):
        options(removed=(layer,))


@pytest.mark.parametrize("value", [3, "34", ["3"], [3.0], [True], {"3": 4}], ids=str)
def test_removed_layers_in_a_file_are_a_list_of_whole_numbers(value):
    with pytest.raises(DeconvnetError, match=r"a\.toml has the option removed = .*: give a list of whole numbers"):
        check_options(ZFNetOptions(), {"removed": value}, "a.toml")
