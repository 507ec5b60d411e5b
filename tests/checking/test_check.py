"""`check` finds what is planted, and nothing in what is right."""

import warnings
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deconvnet.checking import check, compute
from deconvnet.data import torchvision_preprocessing
from deconvnet.errors import DeconvnetWarning, UsageError
from deconvnet.models import Network, load
from deconvnet.projection import by_switches, rules
from deconvnet.tracing import Trace


def make_network(*steps):
    """A convolution, a ReLU and a pooling, then these steps, another convolution, a ReLU and a classifier; 24×24 pixels."""
    first = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2)
    last = nn.Conv2d(6, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 81, 3)
    return Network(nn.Sequential(*first, *steps, *last), torchvision_preprocessing(24, 24), name="small")


class Step(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def findings(result):
    return {layer.layer: layer.finding for layer in result.layers}


class Bottleneck(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(6, 4, 1), nn.Conv2d(4, 6, 3, padding=1)

    def forward(self, x):
        y = F.relu(self.b(F.relu(self.a(x), inplace=True)))
        y += x
        return y.relu_()


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(6, 3, 3, padding=1), nn.Conv2d(9, 6, 1)

    def forward(self, x):
        return self.b(torch.cat([x, F.relu6(self.a(x))], dim=1))


RIGHT = {"a chain": [], "residual": [Bottleneck()], "dense": [Dense()], "normalised": [nn.LocalResponseNorm(3, alpha=0.5)]}


@pytest.mark.parametrize("kind", RIGHT)
def test_what_is_right_is_exact(kind):
    result = check(make_network(*RIGHT[kind]))
    assert result.is_right
    assert set(findings(result).values()) == {"exact"}
    assert result.dtype == "float64"
    assert result.warnings == ()
    assert all(layer.activations == 4 and layer.difference <= 1e-12 for layer in result.layers)
    assert result.verdict.startswith(f"{len(result.layers)} layers are projected exactly by the paper's rules")


def test_a_module_that_reads_strides_gets_those_of_whole_maps():
    result = check(make_network(Step(lambda x: x.as_strided(x.shape, x.stride(), x.storage_offset()))))
    assert result.is_right


def test_a_network_that_takes_no_photos():
    module = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 5, 3), nn.ReLU())
    result = check(Network(module, input_shape=(1, 14, 20)))
    assert result.is_right
    assert findings(result) == {"1": "exact", "4": "exact"}


def test_a_network_that_comes_along():
    result = check(load("alexnet2012"), ["conv1", "conv3", "fc7"])
    assert findings(result) == {"conv1": "exact", "conv3": "exact", "fc7": "exact"}
    assert [layer.way for layer in result.layers] == ["switches, crops", "switches, crops", "switches"]


def test_a_gate_is_approximated_and_told():
    network = make_network(Step(lambda x: x * torch.sigmoid(x.mean(dim=(2, 3), keepdim=True))))
    result = check(network)
    assert result.is_right
    assert findings(result) == {"1": "exact", "5": "approximated"}
    assert result.layers[1].reason == "mul, sigmoid"
    assert any("sigmoid" in warning for warning in result.warnings)
    assert "the gradient stands in for mul, sigmoid" in result.verdict
    assert result.layers[1].way == "autograd"


def test_a_gate_of_which_nothing_is_said_is_found(monkeypatch):
    monkeypatch.setattr(Trace, "functions_without_rule", lambda trace, index: [])
    monkeypatch.setattr(Network, "switch_plan", lambda network, name: None)
    result = check(make_network(Step(lambda x: x * torch.sigmoid(x.mean(dim=(2, 3), keepdim=True)))))
    assert findings(result) == {"1": "exact", "5": "wrong"}
    assert result.layers[1].reason == "the way down passes mul, sigmoid without a warning"
    assert not result.is_right
    assert "Do not rely on it." in result.verdict


class Clamp(torch.autograd.Function):
    """Passes its signal on, wherever it was clamped."""

    @staticmethod
    def forward(ctx, x):
        return x - 0.1

    @staticmethod
    def backward(ctx, signal):
        return signal


def test_an_autograd_function_of_the_modules_own_is_approximated():
    result = check(make_network(Step(Clamp.apply)))
    assert result.is_right
    assert findings(result) == {"1": "exact", "5": "approximated"}
    assert result.layers[1].reason == "Clamp()"
    assert any("Clamp" in warning for warning in result.warnings)


def test_a_wrong_rule_is_found(monkeypatch):
    def leaky(signal):
        return signal.clamp(min=-0.01)

    monkeypatch.setattr(rules._Rectify, "backward", staticmethod(lambda ctx, signal: (leaky(signal), None, None)))
    monkeypatch.setattr(by_switches, "project_by_switches", None)  # so that autograd it is
    result = check(make_network())
    assert findings(result)["4"] == "wrong"
    assert "differ from the second implementation's" in result.layers[1].reason


def test_wrong_switches_are_found(monkeypatch):
    monkeypatch.setattr("deconvnet.projection.batch.is_verified", lambda network, layer: True)
    record = by_switches._record

    def off(*args):
        switches, positions, values = record(*args)
        return {index: switch.flip(-1) for index, switch in switches.items()}, positions, values

    monkeypatch.setattr(by_switches, "_record", off)
    assert findings(check(make_network())) == {"1": "exact", "4": "wrong"}


def test_maps_that_no_plain_pass_has_are_found(monkeypatch):
    activations = Network.activations
    monkeypatch.setattr(Network, "activations", lambda network, x, layer: activations(network, x, layer) * 1.001)
    result = check(make_network())
    assert set(findings(result).values()) == {"wrong"}
    assert "those of no ReLU in a plain forward pass" in result.verdict


def test_a_field_that_is_too_small_is_found(monkeypatch):
    layers = make_network().layers
    wrong = {"1": layers["1"], "4": replace(layers["4"], field=layers["1"].field)}
    monkeypatch.setattr(Network, "layers", wrong)
    result = check(make_network())
    assert findings(result) == {"1": "exact", "4": "wrong"}
    assert "beyond the receptive field" in result.layers[1].reason


def test_wrong_incremental_passes_are_found(monkeypatch):
    patched = compute.forward_patched
    monkeypatch.setattr(compute, "forward_patched", lambda *args: tuple(part * 1.001 for part in patched(*args)))
    result = check(make_network())
    assert set(findings(result).values()) == {"exact"}
    assert not result.is_right
    assert "occlusion maps are wrong" in result.verdict


def test_what_is_refused_is_the_finding():
    result = check(make_network(Step(lambda x: F.dropout(x, 0.5))))
    assert not result.is_right
    assert result.layers == ()
    assert "another output in each pass" in result.refusal
    assert result.verdict == str(result) == f"small cannot be looked at. {result.refusal}"


def test_a_layer_that_is_refused():
    result = check(make_network(nn.SiLU()))
    assert findings(result) == {"1": "exact", "5": "refused"}
    assert not result.is_right
    assert "uses silu" in result.verdict


def test_a_dead_layer_says_nothing():
    network = make_network()
    with torch.no_grad():
        network.module[3].weight.zero_()
        network.module[3].bias.fill_(-1)
    result = check(network)
    assert findings(result) == {"1": "exact", "4": "no signal"}
    assert result.is_right
    assert "1 gave no signal" in result.verdict


def test_a_signal_that_does_not_arrive():
    network = make_network()
    with torch.no_grad():
        network.module[3].weight.copy_(-network.module[3].weight.abs())
        network.module[3].bias.fill_(100)
    result = check(network)
    assert findings(result) == {"1": "exact", "4": "no signal"}
    assert result.layers[1].reason == "nothing arrives at the pixels"


def test_what_does_not_run_in_float64():
    result = check(make_network(Step(lambda x: F.conv2d(x, torch.ones(6, 6, 1, 1)))))
    assert result.dtype == "float32"
    assert set(findings(result).values()) == {"exact"}


def test_what_cannot_be_copied():
    class Uncopied(nn.Module):
        def forward(self, x):
            return x

        def __deepcopy__(self, memo):
            raise TypeError("not twice")

    result = check(make_network(Uncopied()))
    assert result.findings == ("no copy of it could be compared (TypeError: not twice)",)
    assert not result.is_right


def test_the_network_is_as_it_was():
    network = make_network(nn.Dropout()).to("cpu")
    network.module.train()
    before = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(network)
    assert network.module.training
    assert network.dtype == torch.float32
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.module.state_dict().items())


def test_only_some_layers():
    network = make_network()
    assert list(findings(check(network, ["4"]))) == ["4"]
    with pytest.raises(UsageError, match="no layer 'conv9'"):
        check(network, ["conv9"])


def test_a_warning_is_in_the_result_and_given_once():
    network = make_network(Step(lambda x: torch.stack([one - float(one.detach().mean()) for one in x])))
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeconvnetWarning)
        result = check(network)
    assert len(result.warnings) == 1
    assert "reads values of maps into Python" in result.warnings[0]
    assert str(result).startswith(result.warnings[0])


def test_as_json():
    result = check(make_network())
    described = result.as_json()
    assert described["right"] is True
    assert described["layers"][0]["layer"] == "1"
    assert described["layers"][0]["field"] == "3×3"
