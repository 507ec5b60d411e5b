"""The layers that a trace finds in modules of all spellings; and it leaves the module unchanged."""

import contextlib
import copy
import re

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.nn.modules import module as torch_module

from deconvnet.errors import DeconvnetError
from deconvnet.tracing import trace


class Forward(nn.Module):
    """A module with two convolutions whose forward pass is a function of itself and its input."""

    def __init__(self, forward):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
        self.relu = nn.ReLU()
        self.run = forward

    def forward(self, x):
        return self.run(self, x)


def layers(module, size=12):
    return trace(module, torch.rand(1, 3, size, size)).layers


def names(module, size=12):
    return [layer.name for layer in layers(module, size)]


def as_statement(function):
    """An in-place ReLU whose return value is ignored."""

    def step(x):
        function(x)
        return x

    return step


RELUS = {
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU in place": nn.ReLU(inplace=True),
    "nn.ReLU6": nn.ReLU6(),
    "nn.ReLU6 in place": nn.ReLU6(inplace=True),
    "nn.Hardtanh": nn.Hardtanh(0.0, 6.0),
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "F.relu by keyword": lambda x: F.relu(input=x),
    "F.relu6": F.relu6,
    "F.hardtanh": lambda x: F.hardtanh(x, 0, 6),
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "F.relu_": F.relu_,
    "method": lambda x: x.relu(),
    "method in place": lambda x: x.relu_(),
    "statement": as_statement(lambda x: x.relu_()),
    "functional statement": as_statement(lambda x: F.relu(x, inplace=True)),
    "clamp": lambda x: x.clamp(min=0),
    "clamp by position": lambda x: x.clamp(0.0),
    "torch.clamp": lambda x: torch.clamp(x, 0, 6),
    "clamp in place": as_statement(lambda x: x.clamp_(min=0)),
    "clamp_min": lambda x: x.clamp_min(0),
    "torch.clamp_min": lambda x: torch.clamp_min(x, 0),
    "clip": lambda x: x.clip(min=0),
    "torch.clip": lambda x: torch.clip(x, 0),
    "clip in place": as_statement(lambda x: x.clip_(0)),
    "threshold": lambda x: F.threshold(x, 0, 0),
    "nn.Threshold": nn.Threshold(0.0, 0.0),
    "hardtanh in place": as_statement(lambda x: F.hardtanh_(x, 0.0, 6.0)),
}


@pytest.mark.parametrize("spelling", RELUS)
def test_every_spelling_of_a_relu_is_a_layer(spelling):
    relu = RELUS[spelling]
    first, second = layers(Forward(lambda self, x: self.second(relu(self.first(x))).relu()))
    assert (first.units, first.map_size, first.field.size) == (4, (10, 10), (3, 3))
    assert (second.units, second.map_size, second.field.size) == (5, (8, 8), (5, 5))
    assert (first.index, second.index) == (0, 1)
    assert first.convolutional


NO_RELUS = {
    "nothing": lambda x: x,
    "sigmoid": torch.sigmoid,
    "threshold not at 0": lambda x: F.threshold(x, 0.1, 0),
    "clamp not at 0": lambda x: x.clamp(min=0.1),
    "clamp from above": lambda x: x.clamp(max=0),
    "clamp to other tensors": lambda x: x.clamp(min=torch.full((1,), 0.1)),
    "maximum with another number": lambda x: torch.maximum(x, torch.full((1,), 0.1)),
    "maximum of two": lambda x: torch.maximum(x, x.flip(1)),
    "hardtanh": F.hardtanh,
}


@pytest.mark.parametrize("function", NO_RELUS)
def test_a_network_without_relu_is_refused(function):
    with pytest.raises(DeconvnetError, match="No ReLU was met in this network"):
        layers(Forward(lambda self, x: NO_RELUS[function](self.first(x))))


def test_without_a_relu_other_activations_are_the_layers():
    assert names(Forward(lambda self, x: F.silu(F.gelu(self.first(x))))) == ["gelu", "silu"]
    assert names(nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU())) == ["1"]
    assert names(Forward(lambda self, x: F.silu(F.relu(self.first(x))))) == ["relu"]


def test_layers_are_named_by_the_path_of_their_relu():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU6()))
    assert names(module) == ["1", "2.1"]


def test_a_functional_relu_is_named_by_the_module_that_calls_it():
    module = nn.Sequential(Forward(lambda self, x: F.relu(self.first(x))))
    assert names(module) == ["0.relu"]
    assert names(module[0]) == ["relu"]


def test_the_calls_of_a_shared_relu_are_numbered():
    assert names(Forward(lambda self, x: self.relu(self.second(self.relu(self.first(x)))))) == ["relu#1", "relu#2"]


def test_a_relu_shared_under_two_names_has_the_first():
    relu = nn.ReLU()
    assert names(nn.Sequential(nn.Conv2d(3, 4, 3), relu, nn.Conv2d(4, 4, 3), relu)) == ["1#1", "1#2"]


def test_only_duplicate_names_are_numbered():
    module = Forward(lambda self, x: self.relu(F.relu(self.second(self.relu(self.first(x))))))
    assert names(nn.Sequential(module, nn.ReLU())) == ["0.relu#1", "0.relu#2", "0.relu#3", "1"]


def test_a_failing_submodule_whose_error_is_caught_does_not_disturb_the_names():
    def forward(self, x):
        with contextlib.suppress(RuntimeError):
            self.second(x)  # takes four channels, not three
        return F.relu(self.first(x))

    assert names(nn.Sequential(Forward(forward))) == ["0.relu"]


def test_resnets_layers_have_their_known_names():
    with torch.device("meta"):
        names = [layer.name for layer in trace(torchvision.models.resnet18(), torch.zeros(1, 3, 64, 64)).layers]
    blocks = [f"layer{layer}.{block}.relu#{call}" for layer in range(1, 5) for block in range(2) for call in (1, 2)]
    assert names == ["relu", *blocks]


def test_the_field_of_a_residual_connection_is_the_union():
    module = Forward(lambda self, x: F.relu(x + F.conv2d(x, torch.ones(3, 3, 3, 3), padding=1)))
    assert layers(module)[0].field.box(4, 5) == (4, 3, 7, 6)


def test_a_fully_connected_layer_depends_on_the_whole_image():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 7), nn.ReLU())
    first, second = layers(module)
    assert first.convolutional
    assert (second.units, second.map_size, second.convolutional) == (7, (1, 1), False)
    assert second.field.clipped_box(0, 0) == (0, 0, 12, 12)


def test_global_pooling_depends_on_the_whole_image():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 5, 1), nn.ReLU())
    (layer,) = layers(module)
    assert layer.map_size == (1, 1)
    assert layer.field.clipped_box(0, 0) == (0, 0, 12, 12)


NO_MAPS = {
    "sequences": (lambda x: F.relu(x.flatten(2)), r"relu#1 gives a tensor of shape \(1, 4, 100\)"),
    "boxes": (lambda x: F.relu(x.flatten(1).view(-1, 4)), r"relu#1 gives a tensor of shape \(100, 4\)"),
    "flattened maps": (
        lambda x: F.relu(x.flatten(1)),
        r"relu#1 gives a tensor of shape \(1, 400\), feature maps written as",
    ),
    "channels last": (lambda x: F.relu(x.permute(0, 2, 3, 1)), r"relu#1 gives a tensor of shape \(1, 10, 10, 4\)"),
    "channels last, viewed as they are": (
        lambda x: F.relu(F.pad(x.permute(0, 2, 3, 1).contiguous().view(1, 10, 10, 4), (0, 0, 0, 1, 0, 1))),
        r"relu#1 gives a tensor of shape \(1, 11, 11, 4\)",
    ),
    "tokens": (
        lambda x: F.relu(F.linear(x.flatten(2).mT.reshape(1, 10, 10, 4), torch.ones(6, 4))),
        r"relu#1 gives a tensor of shape \(1, 10, 10, 6\)",
    ),
    "behind a linear layer": (
        lambda x: F.relu(F.linear(x.movedim(1, -1).contiguous(), torch.ones(6, 4))),
        r"relu#1 gives a tensor of shape \(1, 10, 10, 6\)",
    ),
}


@pytest.mark.parametrize("name", NO_MAPS)
def test_a_relu_that_gives_no_feature_maps_is_no_layer_and_spoils_no_other(name):
    step, sentence = NO_MAPS[name]
    module = Forward(lambda self, x: (step(self.first(x)), F.relu(self.second(F.relu(self.first(x))))))
    traced = trace(module, torch.zeros(1, 3, 12, 12))
    assert [layer.index for layer in traced.layers] == [1, 2]
    assert len(traced.no_layers) == 1
    assert re.match(sentence.replace("#1", ""), traced.no_layers[0])
    with pytest.raises(DeconvnetError, match=rf"No ReLU was met in this network \({sentence.replace('#1', '')}"):
        trace(Forward(lambda self, x: step(self.first(x))), torch.zeros(1, 3, 12, 12))


def test_a_product_of_flattened_maps_is_a_vector_though_it_is_as_long():
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU())
    assert [(layer.units, layer.convolutional) for layer in trace(module, torch.zeros(1, 3, 2, 2)).layers] == [
        (12, False)
    ] * 2


def test_channels_that_are_moved_back_are_feature_maps_again():
    def forward(self, x):
        x = F.layer_norm(self.first(x).permute(0, 2, 3, 1), (4,))
        return F.relu(self.second(F.relu(x.permute(0, 3, 1, 2))))

    assert [layer.units for layer in layers(Forward(forward))] == [4, 5]


def test_batch_statistics_are_refused():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU())
    with pytest.raises(DeconvnetError, match="The batch normalisation '1' goes by the photos that happen to be in a batch"):
        layers(module)


GATES = {
    "a gate": (lambda x: x * x.mean(dim=(2, 3), keepdim=True).sigmoid(), ["mul", "sigmoid"]),
    "attention": (
        lambda x: (x.flatten(2).softmax(dim=2) @ x.flatten(2).mT).sum(dim=2)[:, :, None, None],
        ["matmul", "softmax"],
    ),
    "layer normalisation": (lambda x: F.layer_norm(x, x.shape[1:]), ["layer_norm"]),
    "a quotient": (lambda x: x / (1 + x), ["div"]),
}


@pytest.mark.parametrize("name", GATES)
def test_functions_without_rule_are_listed_for_the_layers_behind_them(name):
    step, names = GATES[name]
    traced = trace(Forward(lambda self, x: F.relu(step(F.relu(self.first(x))))), torch.rand(1, 3, 12, 12))
    assert [traced.functions_without_rule(index) for index in (0, 1)] == [[], names]


@pytest.mark.parametrize(
    "name", ["alexnet", "vgg11_bn", "resnet18", "googlenet", "densenet121", "mobilenet_v2", "shufflenet_v2_x0_5"]
)
def test_usual_networks_have_a_rule_for_everything(name):
    options = {"aux_logits": False, "init_weights": False, "transform_input": True} if name == "googlenet" else {}
    with torch.device("meta"):
        traced = trace(getattr(torchvision.models, name)(**options), torch.zeros(1, 3, 64, 64))
    assert traced.functions_without_rule(len(traced.layers) - 1) == []


@pytest.mark.filterwarnings("ignore:.*torch.jit")  # deprecated, and still met
def test_a_script_module_is_refused_even_inside_another():
    scripted = torch.jit.script(nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU()))
    for module in (scripted, nn.Sequential(scripted, nn.Conv2d(3, 4, 3), nn.ReLU())):
        with pytest.raises(DeconvnetError, match="A ScriptModule hides what it computes"):
            layers(module)


class Fails(Forward):
    def __init__(self):
        super().__init__(lambda self, x: self.broken(self.relu(self.first(x))))
        self.dropout = nn.Dropout()

    def broken(self, x):
        raise ZeroDivisionError


def state_of(module):
    """Everything about a module that a trace could leave changed."""
    return (
        [
            (name, submodule.training, list(vars(submodule)), submodule.forward.__qualname__)
            for name, submodule in module.named_modules()
        ],
        [(len(submodule._forward_hooks), len(submodule._forward_pre_hooks)) for submodule in module.modules()],
        [
            len(hooks)
            for name, hooks in vars(torch_module).items()
            if name.startswith("_global_") and hasattr(hooks, "__len__")
        ],
    )


@pytest.mark.parametrize("training", [False, True])
def test_the_module_is_unchanged(training):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout()).train(training)
    module[1].train(not training)
    before, weights = state_of(module), copy.deepcopy(module.state_dict())
    trace(module, torch.rand(1, 3, 8, 8))
    assert state_of(module) == before
    assert all(torch.equal(tensor, weights[name]) for name, tensor in module.state_dict().items())
    assert all(submodule.grad is None for submodule in module.parameters())


def test_the_module_is_unchanged_when_its_forward_raises():
    module = Fails().train()
    module.second.eval()
    before = state_of(module)
    with pytest.raises(ZeroDivisionError):
        trace(module, torch.rand(1, 3, 8, 8))
    assert state_of(module) == before
    assert names(Forward(lambda self, x: self.relu(self.first(x)))) == ["relu"]  # and the next trace works


def test_the_input_is_unchanged():
    x = torch.rand(1, 3, 8, 8)
    before = x.clone()
    trace(nn.Sequential(nn.ReLU(inplace=True), Forward(lambda self, x: self.first(x.sub_(1)))), x)
    assert torch.equal(x, before)


def test_dropout_and_batch_statistics_are_off_during_the_trace():
    modes = []
    module = Forward(
        lambda self, x: modes.append([submodule.training for submodule in self.modules()]) or self.relu(self.first(x))
    )
    layers(module.train())
    assert modes == [[False] * 4]
