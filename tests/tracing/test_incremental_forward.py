"""Versions of one image, each with a different patch: computed from the image's activations, and in full."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from deconvnet.models import AlexNet2012, AlexNetOptions, ZFNet, ZFNetOptions
from deconvnet.tracing import ActivationCache, IncrementalForward, run_intercepted, trace
from deconvnet.tracing.incremental_forward import ChangedRegion

PATCH = (9, 7)


def patch_corners(size):
    """At the corners, at borders, in the middle, and at every remainder of small strides."""
    far = torch.tensor([size - PATCH[0], size - PATCH[1]])
    corners = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]) * far
    return torch.cat([corners, torch.tensor([[i * 3 + 1, i * 2 + 5] for i in range(8)])]).clamp(max=size - PATCH[0])


def incremental_and_full(module, size, layer_index=None, corners=None):
    """The output of the module, or of a layer, for the versions of an image: by an incremental pass and by a full one."""
    module.double().eval()
    x = torch.randn(1, 3, size, size, dtype=torch.float64)
    corners = patch_corners(size) if corners is None else corners
    patches = torch.randn(len(corners), 3, *PATCH, dtype=torch.float64)
    versions = x.repeat(len(corners), 1, 1, 1)
    for version, patch, (row, column) in zip(versions, patches, corners.tolist(), strict=True):
        version[:, row : row + PATCH[0], column : column + PATCH[1]] = patch
    incremental = IncrementalForward(ActivationCache(trace(module, x), module, x), corners, PATCH)
    captured = []

    def capture_incremental(index, output):
        if index == layer_index:
            captured.append(incremental.full_maps(output).clone())
        return False

    def capture_full(index, output):
        if index == layer_index:
            captured.append(output.clone())
        return False

    with torch.inference_mode():
        outputs = [
            run_intercepted(module, patches.clone(), capture_incremental, partial=incremental),
            run_intercepted(module, versions.clone(), capture_full),
        ]
    if outputs[0].dim() == 4:
        outputs[0] = incremental.full_maps(outputs[0])
    return captured if layer_index is not None else outputs


class InPlace(nn.Module):
    """Adds in place, as a statement, a map in which a larger region is changed."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 5, padding=2)

    def forward(self, x):
        x = self.first(x)
        x.add_(self.second(x))
        x.relu_()
        return x


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.third = nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        x = F.relu(self.first(x))
        x = x + self.norm(self.second(x))
        y = torch.cat([F.relu(x), F.max_pool2d(F.relu(self.third(x)), 3, 1, 1)], dim=1)
        a, b = F.relu(y).chunk(2, dim=1)
        return (a * 0.5 + b).mean(dim=(2, 3))


class PickedPositions(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (
            nn.Conv2d(3, 4, 3, padding=1),
            nn.Conv2d(4, 4, 3),
            nn.Conv2d(4, 4, 3, padding=2),
        )

    def forward(self, x):
        x = F.relu(self.first(x))[:, :, 2:-3]
        x = F.relu(self.second(x) + x[..., 1:-1, 1:-1])
        return F.relu(self.third(x.narrow(3, 4, 20)[:, :, 1::2, ::2]))


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
    "positions picked": (PickedPositions, 40),
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
def test_outputs_are_those_of_the_full_pass(name):
    build, size = MODULES[name]
    torch.testing.assert_close(*incremental_and_full(build(), size), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layer", [0, 1, 2, 4])
def test_layers_are_those_of_the_full_pass(layer):
    module = AlexNet2012(AlexNetOptions(classes=0))
    torch.testing.assert_close(*incremental_and_full(module, 227, layer), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("first", [nn.Conv2d(3, 4, 2, 20), nn.MaxPool2d(2, 20)], ids=["convolution", "pooling"])
@pytest.mark.parametrize("corners", [[[5, 6]], [[5, 6], [9, 8]], [[5, 0]], [[0, 6]], [[31, 33]], [[5, 6], [0, 0]]], ids=str)
def test_a_patch_that_no_window_reads_changes_nothing(first, corners):
    module, corners = nn.Sequential(first, nn.ReLU()), torch.tensor(corners)
    torch.testing.assert_close(*incremental_and_full(module, 40, corners=corners), rtol=1e-9, atol=1e-9)


def test_only_changed_columns_are_computed():
    module, widths = AlexNet2012(AlexNetOptions(classes=0)).eval(), []
    x = torch.randn(1, 3, 227, 227)
    incremental = IncrementalForward(ActivationCache(trace(module, x), module, x), torch.tensor([[100, 100]]), (50, 50))
    with torch.inference_mode():
        run_intercepted(module, torch.zeros(1, 3, 50, 50), lambda _, maps: widths.append(maps.shape[3]), partial=incremental)
    assert widths == [15, 12, 9, 13, 13]


def test_a_union_is_no_larger_than_needed():
    first = ChangedRegion(torch.tensor([[2, 3], [6, 1]]), (3, 4))
    second = ChangedRegion(torch.tensor([[4, 2], [6, 4]]), (2, 2))
    union = first.union(second, (9, 9))
    assert union.size == (4, 5)  # rows 2 to 5 of the first version, columns 2 to 6 or 1 to 5
    assert union.corners.tolist() == [[2, 2], [5, 1]]  # inside the map


@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1])
def test_affected_outputs_are_those_that_change(kernel, stride, padding):
    conv = nn.Conv2d(1, 1, kernel, stride, min(padding, kernel // 2), bias=False).double()
    nn.init.ones_(conv.weight)
    traced = trace(nn.Sequential(nn.Conv2d(3, 1, 1), conv, nn.ReLU()).double(), torch.zeros(1, 3, 17, 17).double())
    window = next(step.window for step in reversed(traced.steps) if step.window and step.window.kernel == (kernel, kernel))
    for start in range(13):
        x = torch.zeros(1, 1, 17, 17, dtype=torch.float64)
        x[..., start : start + 4, 3:7] = 1
        y = conv(x)[0, 0]
        region = ChangedRegion(torch.tensor([[start, 3]]), (4, 4)).affected_outputs(window, tuple(y.shape))
        rows, columns = y.nonzero().unbind(dim=1)
        top, left = region.corners[0].tolist()
        assert top <= int(rows.min()) <= int(rows.max()) < top + region.size[0]
        assert left <= int(columns.min()) <= int(columns.max()) < left + region.size[1]
        if kernel <= start <= 13 - kernel:  # not clipped by the border
            assert region.size[0] == int(rows.max() - rows.min()) + 1
