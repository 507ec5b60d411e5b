"""Versions of one image that differ in a window each: computed from what the image makes, and all anew."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from deconvnet.models import AlexNet2012, AlexNetOptions, ZFNet, ZFNetOptions
from deconvnet.tracing import run_intercepted, trace
from deconvnet.tracing.incremental_forward import ActivationCache, ChangedRegion, IncrementalForward

WINDOW = (9, 7)


def starts(size):
    """Corners, borders, the middle, and every remainder of small strides."""
    far = torch.tensor([size - WINDOW[0], size - WINDOW[1]])
    corners = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]) * far
    return torch.cat([corners, torch.tensor([[i * 3 + 1, i * 2 + 5] for i in range(8)])]).clamp(max=size - WINDOW[0])


def both(module, size, layer=None):
    """What the module makes of the versions from what the image makes of itself, and anew: at a layer, or its output."""
    module.double().eval()
    x = torch.randn(1, 3, size, size, dtype=torch.float64)
    places = starts(size)
    windows = torch.randn(len(places), 3, *WINDOW, dtype=torch.float64)
    versions = x.repeat(len(places), 1, 1, 1)
    for version, window, (row, column) in zip(versions, windows, places.tolist(), strict=True):
        version[:, row : row + WINDOW[0], column : column + WINDOW[1]] = window
    found = trace(module, x)
    patched = IncrementalForward(ActivationCache(found, module, x), places, WINDOW)
    kept = []

    def keep(index, output):
        if index == layer:
            kept.append(patched.whole(output).clone())
        return False

    def keep_anew(index, output):
        if index == layer:
            kept.append(output.clone())
        return False

    with torch.inference_mode():
        outputs = [
            run_intercepted(module, windows.clone(), keep, cut=patched),
            run_intercepted(module, versions.clone(), keep_anew),
        ]
    if outputs[0].dim() == 4:
        outputs[0] = patched.whole(outputs[0])
    return kept if layer is not None else outputs


class InPlace(nn.Module):
    """Adds in place what is changed in a larger window, as a statement."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 5, padding=2)

    def forward(self, x):
        x = self.one(x)
        x.add_(self.two(x))
        x.relu_()
        return x


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        x = F.relu(self.one(x))
        x = x + self.norm(self.two(x))
        y = torch.cat([F.relu(x), F.max_pool2d(F.relu(self.three(x)), 3, 1, 1)], dim=1)
        a, b = F.relu(y).chunk(2, dim=1)
        return (a * 0.5 + b).mean(dim=(2, 3))


MODULES = {
    "alexnet2012": (lambda: AlexNet2012(AlexNetOptions(classes=5, hidden=8)), 227),
    "zfnet": (lambda: ZFNet(ZFNetOptions(classes=5, hidden=8, middle=(6, 6, 4))), 224),
    "branches": (Branches, 40),
    "in place": (InPlace, 40),
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=4), 96),
    "padding": (
        lambda: nn.Sequential(
            nn.ZeroPad2d((1, 2, 3, 0)), nn.Conv2d(3, 4, 3, 2, 1, 2), nn.ReLU(inplace=True), nn.AvgPool2d(3, 2, 1), nn.ReLU()
        ),
        50,
    ),
    "ceil": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 5, 3),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1, ceil_mode=True),
            nn.Conv2d(4, 3, 2, 2, bias=False),
            nn.ReLU(),
        ),
        53,
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_it_is_the_same_pass(name):
    make, size = MODULES[name]
    torch.testing.assert_close(*both(make(), size), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layer", [0, 1, 2, 4])
def test_layers_on_the_way_are_the_same(layer):
    torch.testing.assert_close(*both(AlexNet2012(AlexNetOptions(classes=0)), 227, layer), rtol=1e-9, atol=1e-9)


def test_less_is_computed():
    module, done = AlexNet2012(AlexNetOptions(classes=0)).eval(), []
    x = torch.randn(1, 3, 227, 227)
    patched = IncrementalForward(ActivationCache(trace(module, x), module, x), torch.tensor([[100, 100]]), (50, 50))
    with torch.inference_mode():
        run_intercepted(module, torch.zeros(1, 3, 50, 50), lambda index, output: done.append(output.shape[-1]), cut=patched)
    assert done == [15, 12, 9, 13, 13]


@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1])
def test_a_region_is_what_a_window_changes(kernel, stride, padding):
    conv = nn.Conv2d(1, 1, kernel, stride, min(padding, kernel // 2), bias=False).double()
    nn.init.ones_(conv.weight)
    found = trace(nn.Sequential(nn.Conv2d(3, 1, 1), conv, nn.ReLU()).double(), torch.zeros(1, 3, 17, 17).double())
    window = next(step.window for step in reversed(found.steps) if step.window and step.window.kernel == (kernel, kernel))
    for start in range(13):
        x = torch.zeros(1, 1, 17, 17, dtype=torch.float64)
        x[..., start : start + 4, 3:7] = 1
        y = conv(x)[0, 0]
        region = ChangedRegion(torch.tensor([[start, 3]]), (4, 4)).through(window, tuple(y.shape))
        rows, columns = y.nonzero().unbind(dim=1)
        top, left = region.starts[0].tolist()
        assert top <= int(rows.min()) <= int(rows.max()) < top + region.size[0]
        assert left <= int(columns.min()) <= int(columns.max()) < left + region.size[1]
        if kernel <= start <= 13 - kernel:  # not cut by the border
            assert region.size[0] == int(rows.max() - rows.min()) + 1
