"""ZFNet's sizes, against Fig. 3, and the order that the figure's caption gives."""

import pytest
import torch
from torch import nn

from deconvnet.errors import UsageError
from deconvnet.local_response_norm import LRNConstants
from deconvnet.models import ZFNet, ZFNetOptions


def test_the_maps_have_the_sizes_of_figure_3():
    sizes = []
    with torch.device("meta"):
        module = ZFNet()
        for part in module.modules():
            if isinstance(part, nn.Conv2d | nn.MaxPool2d | nn.Linear):
                part.register_forward_hook(lambda part, _, output: sizes.append(tuple(output.shape[1:])))
        module(torch.zeros(1, 3, 224, 224))
    assert sizes == [
        (96, 110, 110),
        (96, 55, 55),
        (256, 26, 26),
        (256, 13, 13),
        (384, 13, 13),
        (384, 13, 13),
        (256, 13, 13),
        (256, 6, 6),
        (4096,),
        (4096,),
        (1000,),
    ]


def test_the_number_of_parameters_is_that_of_its_shapes():
    kernels = [(96, 3, 7), (256, 96, 5), (384, 256, 3), (384, 384, 3), (256, 384, 3)]
    connections = [(4096, 256 * 6 * 6), (4096, 4096), (1000, 4096)]
    expected = sum(n * (m * k * k + 1) for n, m, k in kernels) + sum(n * (m + 1) for n, m in connections)
    with torch.device("meta"):
        assert sum(tensor.numel() for tensor in ZFNet().parameters()) == expected == 62_357_608


def test_all_connections_are_dense():
    with torch.device("meta"):
        assert {part.groups for part in ZFNet().modules() if isinstance(part, nn.Conv2d)} == {1}


# Constants that make the normalisation strong, so that its place shows.
STRONG = LRNConstants(alpha=1.0, k=0.01)


@pytest.fixture(scope="module")
def in_both_orders():
    """Two trunks with the same weights, pooling before normalisation and after it."""
    first, second = (ZFNet(ZFNetOptions(classes=0, contrast=STRONG, order=order)) for order in ("pool-norm", "norm-pool"))
    second.load_state_dict(first.state_dict())
    return first, second


def test_the_paper_pools_before_it_normalises(in_both_orders):
    module, _ = in_both_orders
    x = torch.rand(1, 3, 224, 224) * 10
    with torch.no_grad():
        y = module.conv2(module.norm(module.pool(module.conv1(x).clamp(min=0)))).clamp(min=0)
        y = module.conv3(module.norm(module.pool(y))).clamp(min=0)
        expected = module.pool(module.conv5(module.conv4(y).clamp(min=0)).clamp(min=0))
        assert torch.allclose(module(x), expected, rtol=1e-4, atol=1e-5 * expected.max().item())


def test_the_order_option_changes_the_output(in_both_orders):
    first, second = in_both_orders
    x = torch.rand(1, 3, 224, 224) * 10
    with torch.no_grad():
        one, other = first(x), second(x)
        y = second.conv2(second.pool(second.norm(second.conv1(x).clamp(min=0)))).clamp(min=0)
        y = second.conv3(second.pool(second.norm(y))).clamp(min=0)
        expected = second.pool(second.conv5(second.conv4(y).clamp(min=0)).clamp(min=0))
    assert torch.allclose(other, expected, rtol=1e-4, atol=1e-5 * expected.max().item())
    assert one.shape == other.shape
    assert (one - other).abs().max() > 0.01 * one.abs().max()


def test_the_model_zoos_zfnet_has_its_sizes():
    sizes = []
    with torch.device("meta"):
        module = ZFNet(ZFNetOptions(padding=0, pool5=2, fc7=1024, middle=(512, 512, 512)))
        for part in module.modules():
            if isinstance(part, nn.Conv2d | nn.MaxPool2d | nn.Linear):
                part.register_forward_hook(lambda part, _, output: sizes.append(tuple(output.shape[-2:])))
        module(torch.zeros(1, 3, 224, 224))
    square = [(side, side) for side in (109, 54, 25, 12, 12, 12, 12, 6)]
    assert sizes == [*square, (1, 4096), (1, 1024), (1, 1000)]
    assert sum(tensor.numel() for tensor in module.parameters()) == 87_250_536


def test_an_order_that_does_not_exist_is_refused():
    with pytest.raises(UsageError, match="not 'pool'"):
        ZFNetOptions(order="pool")


def test_weights_start_from_a_normal_distribution_and_biases_from_zero():
    for name, tensor in ZFNet(ZFNetOptions(classes=10, hidden=16)).named_parameters():
        if name.endswith("bias"):
            assert (tensor == 0).all(), name
        elif tensor.numel() > 10_000:
            assert abs(tensor.std().item() - 0.01) < 2e-4, name
            assert abs(tensor.mean().item()) < 3e-4, name
