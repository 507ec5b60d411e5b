"""The 2012 network's sizes, against Krizhevsky et al.'s numbers."""

import torch

from deconvnet.local_response_norm import LRNConstants
from deconvnet.models import AlexNet2012, AlexNetOptions


def map_sizes(module, x):
    """The output sizes of a module's convolutions and poolings, in the order in which they run."""
    sizes = []
    for part in module.modules():
        if isinstance(part, torch.nn.Conv2d | torch.nn.MaxPool2d):
            part.register_forward_hook(lambda part, _, output: sizes.append((type(part).__name__, *output.shape[1:])))
    module(x)
    return sizes


def test_the_maps_have_the_published_sizes():
    with torch.device("meta"):
        sizes = map_sizes(AlexNet2012(AlexNetOptions(classes=0)), torch.zeros(1, 3, 227, 227))
    assert sizes == [
        ("Conv2d", 96, 55, 55),
        ("MaxPool2d", 96, 27, 27),
        ("Conv2d", 256, 27, 27),
        ("MaxPool2d", 256, 13, 13),
        ("Conv2d", 384, 13, 13),
        ("Conv2d", 384, 13, 13),
        ("Conv2d", 256, 13, 13),
        ("MaxPool2d", 256, 6, 6),
    ]


def test_it_has_as_many_parameters_as_caffes():
    with torch.device("meta"):
        assert sum(tensor.numel() for tensor in AlexNet2012().parameters()) == 60_965_224


def test_second_fourth_and_fifth_layer_have_two_groups():
    with torch.device("meta"):
        module = AlexNet2012()
    assert [getattr(module, f"conv{number}").groups for number in range(1, 6)] == [1, 2, 1, 2, 2]


def test_a_map_of_the_second_layer_sees_only_its_own_half_of_the_first():
    module = AlexNet2012(AlexNetOptions(classes=0))
    x = torch.rand(1, 96, 9, 9, requires_grad=True)
    module.conv2(x)[0, 200, 4, 4].backward()
    seen = x.grad[0].abs().amax(dim=(1, 2)) > 0
    assert seen.tolist() == [False] * 48 + [True] * 48


def test_it_is_conv_relu_norm_pool_twice_then_three_convs_and_a_pool():
    module = AlexNet2012(AlexNetOptions(classes=10, hidden=16, contrast=LRNConstants(alpha=1.0))).eval()
    x = 100 * torch.rand(1, 3, 227, 227)
    with torch.no_grad():
        y = module.pool(module.norm(module.conv1(x).clamp(min=0)))
        y = module.pool(module.norm(module.conv2(y).clamp(min=0)))
        y = module.conv5(module.conv4(module.conv3(y).clamp(min=0)).clamp(min=0)).clamp(min=0)
        y = module.fc6(module.pool(y).flatten(1)).clamp(min=0)
        expected = module.fc8(module.fc7(y).clamp(min=0))
        assert torch.allclose(module(x), expected, rtol=1e-4, atol=1e-5 * expected.max().item())


def test_dropout_halves_fc6_and_fc7_in_training_only():
    module = AlexNet2012(AlexNetOptions(classes=10, hidden=16))
    shares = []
    module.dropout.register_forward_hook(lambda part, given, output: shares.append((part.p, given[0].shape, output.shape)))
    module.train()(torch.rand(2, 3, 227, 227))
    assert shares == [(0.5, (2, 16), (2, 16))] * 2


def test_weights_start_from_a_normal_distribution_and_biases_from_zero():
    module = AlexNet2012(AlexNetOptions(classes=10, hidden=16))
    for name, tensor in module.named_parameters():
        if name.endswith("bias"):
            assert (tensor == 0).all(), name
        elif tensor.numel() > 10_000:
            assert abs(tensor.std().item() - 0.01) < 2e-4, name
            assert abs(tensor.mean().item()) < 3e-4, name
            assert abs((tensor.abs() < 0.01).float().mean().item() - 0.6827) < 0.01, name  # within one σ: normal
