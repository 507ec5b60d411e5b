"""Projections of networks that are no chain of layers, against autograd with the rules inserted by hand, in float64."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from deconvnet.data import torchvision_preprocessing
from deconvnet.errors import DeconvnetError
from deconvnet.models import Network
from deconvnet.projection import project_batch
from helpers.projection_checks import check, check_all, randomised
from oracles import plain_deconvnet as plain
from oracles.hand_placed_rules import with_rules

#: torchvision's modules: input size, and every how many layers one is compared.
TORCHVISION = {
    "vgg11": (32, 3),
    "resnet18": (64, 2),
    "googlenet": (64, 4),
    "densenet121": (32, 20),
    "mobilenet_v2": (64, 6),
    "shufflenet_v2_x0_5": (64, 6),
    "squeezenet1_1": (64, 4),
}

FIRST = {
    "vgg11": ["features.1", "features.4", "features.7"],
    "resnet18": ["relu", "layer1.0.relu#1", "layer1.0.relu#2"],
    "googlenet": ["conv1.relu", "conv2.relu", "conv3.relu"],
    "densenet121": ["features.relu0", "features.denseblock1.denselayer1.relu1", "features.denseblock1.denselayer1.relu2"],
    "mobilenet_v2": ["features.0.2", "features.1.conv.0.2", "features.2.conv.0.2"],
    "shufflenet_v2_x0_5": ["conv1.2", "stage2.0.branch1.4", "stage2.0.branch2.2"],
    "squeezenet1_1": ["features.1", "features.3.squeeze_activation", "features.3.expand1x1_activation"],
}


def torchvision_module(name):
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    with torch.device("meta"):
        module = torchvision.models.get_model(name, **options)
        if name == "vgg11":  # the original has a hundred million weights
            module.classifier = nn.Sequential(
                nn.Linear(25088, 40), nn.ReLU(True), nn.Dropout(), nn.Linear(40, 30), nn.ReLU(True)
            )
    return randomised(module)


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_networks(name):
    module = torchvision_module(name)
    names = check_all(module, with_rules(module), *TORCHVISION[name])
    assert FIRST[name] == names[:3]


@torch.no_grad()
def test_vgg11s_convolutions_against_the_plain_deconvnet():
    module = torchvision_module("vgg11")
    step_types = {
        nn.Conv2d: plain.Convolve,
        nn.ReLU: lambda _: plain.Rectify(),
        nn.MaxPool2d: lambda _: plain.Pool(2, 2, ceil=False),
    }
    steps = [step_types[type(submodule)](submodule) for submodule in module.features]
    network = Network(module, torchvision_preprocessing(32, 32))
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    layers = plain.forward(steps, x)
    for index, name in enumerate(network.convolutional_layers):
        check(
            network,
            x,
            name,
            layers[index][0],
            lambda *activation, index=index: plain.project(steps, layers, index, *activation)[0],
        )
    assert len(layers) == len(network.convolutional_layers) == 8


class Small(nn.Module):
    """Three convolutions of eight maps. `forward` is what a user might write; `plain_forward` is the same without sharing,
    without anything in place, and with `relu` as an argument.
    """

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(maps, 8, 3, padding=1) for maps in (3, 8, 8))
        self.relu = nn.ReLU()


class SharedRelu(Small):
    def forward(self, x):
        return self.relu(self.c(self.relu(self.b(self.relu(self.a(x))))))

    def plain_forward(self, x, relu):
        return relu(self.c(relu(self.b(relu(self.a(x))))))


class SharedInPlaceRelu(SharedRelu):
    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU(inplace=True)


class SharedConvolution(SharedRelu):
    def __init__(self):
        super().__init__()
        self.c = self.b


class Functional(SharedRelu):
    def forward(self, x):
        return torch.relu(self.c(F.relu(self.b(F.relu(self.a(x), inplace=True))).clamp(min=0)))

    def plain_forward(self, x, relu):
        return relu(self.c(relu(relu(self.b(relu(self.a(x)))))))


class InPlaceStatement(SharedRelu):
    def forward(self, x):
        x = self.a(x)
        x.relu_()
        x = self.b(x)
        F.relu_(x)
        x = self.c(x)
        x.clamp_(min=0)
        return x


class Residual(Small):
    def forward(self, x):
        x = self.relu(self.a(x))
        x = self.relu(self.b(x) + x)
        return self.relu(x + self.c(x) * 0.5)

    def plain_forward(self, x, relu):
        first = relu(self.a(x))
        second = relu(first + self.b(first))
        return relu(second + self.c(second) / 2)


class InPlaceResidual(Residual):
    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.relu(self.a(x))
        y = self.b(x)
        y += x
        x = self.relu(y)
        y = self.c(x)
        y *= 0.5
        return self.relu(y.add_(x))


class PreActivation(Small):
    """The ReLU stands before the convolution, and the shortcut is not rectified."""

    def forward(self, x):
        x = self.a(x)
        x = x + self.b(F.relu(x))
        return F.relu(x + self.c(F.relu(x)))

    def plain_forward(self, x, relu):
        first = self.a(x)
        second = self.b(relu(first)) + first
        return relu(self.c(relu(second)) + second)


class Concatenation(Small):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(19, 8, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        first = self.relu(self.a(x))
        return self.relu(self.c(torch.cat([first, self.relu(self.b(first)), x], dim=1)))

    def plain_forward(self, x, relu):
        first = relu(self.a(x))
        second = relu(self.b(first))
        return relu(
            F.conv2d(first, self.c.weight[:, :8], self.c.bias)
            + F.conv2d(second, self.c.weight[:, 8:16])
            + F.conv2d(x, self.c.weight[:, 16:])
        )


class Depthwise(Small):
    def __init__(self):
        super().__init__()
        self.b = nn.Conv2d(8, 8, 3, stride=2, groups=8, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU6(inplace=True)

    def forward(self, x):
        return self.relu(self.c(self.relu(self.norm(self.b(self.relu(self.a(x)))))))

    def plain_forward(self, x, relu):
        n = self.norm
        factor = (n.weight / (n.running_var + n.eps).sqrt())[:, None, None]
        x = self.b(relu(self.a(x), 6.0))
        x = relu((x - n.running_mean[:, None, None]) * factor + n.bias[:, None, None], 6.0)
        return relu(self.c(x), 6.0)


class Shuffled(Small):
    def __init__(self):
        super().__init__()
        self.b = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.c = nn.Conv2d(8, 8, 3, padding=1, groups=2)

    def forward(self, x):
        x = self.relu(self.b(self.relu(self.a(x))))
        n, _, rows, columns = x.shape
        x = x.view(n, 2, 4, rows, columns).transpose(1, 2).contiguous().view(n, -1, rows, columns)
        return self.relu(self.c(x))

    def plain_forward(self, x, relu):
        return relu(self.c(relu(self.b(relu(self.a(x))))[:, [0, 4, 1, 5, 2, 6, 3, 7]]))


class Padded(Small):
    def __init__(self):
        super().__init__()
        self.b = nn.Conv2d(8, 8, 3, stride=2)

    def forward(self, x):
        x = self.b(F.pad(self.relu(self.a(x)), (1, 0, 2, 1)))
        return self.relu(self.c(self.relu(x)))

    def plain_forward(self, x, relu):
        x = relu(self.a(x))
        wide = x.new_zeros(1, 8, x.shape[2] + 3, x.shape[3] + 1)
        wide[:, :, 2:-1, 1:] = x
        return relu(self.c(relu(self.b(wide))))


class Chunked(Small):
    def __init__(self):
        super().__init__()
        self.b = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        left, right = self.relu(self.a(x)).chunk(2, dim=1)
        return self.relu(self.c(torch.cat([self.relu(self.b(left)), right], dim=1)))

    def plain_forward(self, x, relu):
        x = relu(self.a(x))
        return relu(self.c(torch.cat([relu(self.b(x[:, :4])), x[:, 4:]], dim=1)))


class InPlaceOnItsInput(SharedRelu):
    def forward(self, x):
        x -= 0.25
        x.mul_(2)
        return super().forward(x)

    def plain_forward(self, x, relu):
        return super().plain_forward((x - 0.25) * 2, relu)


class RectifiedInput(SharedRelu):
    def forward(self, x):
        x.relu_()
        return super().forward(x)

    def plain_forward(self, x, relu):
        return super().plain_forward(relu(x), relu)


class Pooled(Small):
    """Other ways of making maps smaller, and one of making them larger."""

    def forward(self, x):
        x = F.avg_pool2d(self.relu(self.a(x)), 3, 2, 1)
        x = F.max_pool2d(self.relu(self.b(x)), 2)
        x = F.interpolate(x, scale_factor=2)
        return F.adaptive_avg_pool2d(self.relu(self.c(x)), 1).flatten(1).relu()

    def plain_forward(self, x, relu):
        x = relu(self.a(x))
        box = torch.full((8, 1, 3, 3), 1 / 9, dtype=x.dtype)
        x = relu(self.b(F.conv2d(x, box, stride=2, padding=1, groups=8)))
        windows = x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
        x = windows.gather(4, windows.argmax(dim=4, keepdim=True))[..., 0]  # the first among equals
        x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        return relu(relu(self.c(x)).mean(dim=(2, 3)))


class SlicedInPlaceStatement(Small):
    """A tensor is used after some channels were rectified through a view."""

    def forward(self, x):
        x = self.a(x)
        x[:, :4].relu_()
        return self.relu(self.b(x))

    def plain_forward(self, x, relu):
        x = self.a(x)
        return relu(self.b(torch.cat([relu(x[:, :4]), x[:, 4:]], dim=1)))


SMALL = [
    SharedRelu, SharedInPlaceRelu, SharedConvolution, Functional, InPlaceStatement, Residual, InPlaceResidual, PreActivation,
    Concatenation, Depthwise, Shuffled, Padded, Chunked, InPlaceOnItsInput, RectifiedInput, Pooled, SlicedInPlaceStatement,
]  # fmt: skip


class ChunkedInPlace(Small):
    """In place on chunks, which are views."""

    def __init__(self):
        super().__init__()
        self.b = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        left, right = self.a(x).chunk(2, dim=1)
        left, right = self.relu(left), self.relu(right)
        return self.relu(self.c(torch.cat([left, self.relu(self.b(right))], dim=1)))

    def plain_forward(self, x, relu):
        x = self.a(x)
        left, right = relu(x[:, :4]), relu(x[:, 4:])
        return relu(self.c(torch.cat([left, relu(self.b(right))], dim=1)))


class RectifiedWeights(Small):
    """A ReLU that depends on no pixel is no layer (as in the position bias of Swin v2)."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Conv2d(1, 8, 1)  # its weights become factors of the maps

    def forward(self, x):
        x = self.relu(self.a(x)) * F.relu(self.scale.weight).view(1, 8, 1, 1)
        return self.relu(self.b(x))

    def plain_forward(self, x, relu):
        return relu(self.b(relu(self.a(x)) * self.scale.weight.clamp(min=0).view(1, 8, 1, 1)))


SMALL += [ChunkedInPlace, RectifiedWeights]


@pytest.mark.parametrize("network_class", SMALL, ids=lambda network_class: network_class.__name__)
def test_small_networks(network_class):
    module = randomised(network_class())
    check_all(module, module.plain_forward, 16)


class AddedInPlaceToALayer(Small):
    """Changes in place what a convolution needs for its backward pass, which autograd refuses."""

    def forward(self, x):
        x = self.relu(self.a(x))
        x += self.b(x)
        return self.relu(self.c(x))


@pytest.mark.parametrize("rules", ["deconvnet", "gradient"])
def test_a_change_in_place_that_leaves_no_way_down_is_explained(rules):
    network = Network(AddedInPlaceToALayer(), torchvision_preprocessing(16, 16))
    with pytest.raises(DeconvnetError, match=r"There is no way down .* changes in place .* write x = x \+ y"):
        project_batch(network, torch.randn(1, 3, 16, 16), "relu#2", torch.tensor([0]), rules=rules)
