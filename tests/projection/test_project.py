"""What `project` promises besides the numbers: shapes, errors, support, and that nothing is left changed."""

import warnings
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from deconvnet.data import torchvision_preprocessing
from deconvnet.errors import DeconvnetError, DeconvnetWarning, UsageError
from deconvnet.models import AlexNet2012, AlexNetOptions, Network, ZFNet, ZFNetOptions, load
from deconvnet.projection import RULES, Projection, project, project_batch, strongest_position, strongest_unit
from deconvnet.tracing import Rules


def small(**options):
    torch.manual_seed(3)
    module = nn.Sequential(
        nn.Conv2d(3, 5, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.BatchNorm2d(5),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Dropout(0.5),
        nn.Conv2d(5, 7, 3),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(7 * 36, 4),
        nn.ReLU(),
    )
    return Network(module, torchvision_preprocessing(32, 32), layer_names=["conv1", "conv2", "fc3"], **options)


def test_one_input_is_used_for_several_units_and_positions():
    network, x = small(), torch.randn(1, 3, 32, 32)
    batch = project(network, x, layer="conv2", unit=[0, 3, 6], position=[(0, 0), (2, 2), (5, 5)])
    assert isinstance(batch, Projection)
    assert batch.shape == (3, 3, 32, 32)
    for index, (unit, position) in enumerate([(0, (0, 0)), (3, (2, 2)), (6, (5, 5))]):
        single = project(network, x, layer="conv2", unit=unit, position=position)
        torch.testing.assert_close(batch[index], single[0])


def test_a_projection_has_the_position_value_and_field_of_its_activation():
    network, x = small(), torch.randn(1, 3, 32, 32)
    field = network.layer("conv2").field
    projections = project(network, x, layer="conv2", unit=[0, 3], position=[(0, 0), (2, 5)])
    assert projections.places == [(0, 0), (2, 5)]
    assert projections.boxes == [field.patch_box(0, 0), field.patch_box(2, 5)]
    unit = strongest_unit(network, x, "conv2")
    strongest = project(network, x, layer="conv2", unit=unit)
    maps = network.activations(x, "conv2")[0, unit]
    assert strongest.places == [divmod(int(maps.argmax()), maps.shape[1])]
    assert strongest.activations == pytest.approx([float(maps.max())], rel=1e-5)
    (box,) = strongest.boxes
    outside = strongest.clone()
    outside[:, :, box.top : box.bottom, box.left : box.right] = 0
    assert strongest.any()
    assert not outside.any()


def test_the_strongest_unit_anywhere_and_at_a_position():
    network, x = small(), torch.randn(1, 3, 32, 32)
    maps = network.activations(x, "conv2")[0]
    for row, column in ((0, 0), (5, 5), (2, 3)):
        assert strongest_unit(network, x, "conv2", (row, column)) == int(maps[:, row, column].argmax())
    assert strongest_unit(network, x, "fc3", (0, 0)) == strongest_unit(network, x, "fc3")
    with pytest.raises(UsageError, match=r"a position is 0–5,0–5"):
        strongest_unit(network, x, "conv2", (6, 0))
    for position in (5, "row", (1, 2, 3)):
        with pytest.raises(UsageError, match=r"A position is \(row, column\)"):
            strongest_unit(network, x, "conv2", position)


@pytest.mark.parametrize("position", [5, (1, 2, 3), [(1, 2), 3], "row"])
def test_invalid_positions_are_refused(position):
    with pytest.raises(UsageError, match=r"A position is \(row, column\)"):
        project(small(), torch.randn(1, 3, 32, 32), layer="conv2", unit=0, position=position)


def test_invalid_rules_are_refused():
    with pytest.raises(UsageError, match=r"There are no rules \['guided'\]"):
        project(small(), torch.randn(1, 3, 32, 32), layer="conv2", unit=0, rules=["guided"])


def test_one_unit_is_used_for_several_inputs():
    network, x = small(), torch.randn(40, 3, 32, 32)  # more than one batch
    batch = project(network, x, layer="conv1", unit=2)
    assert batch.shape == (40, 3, 32, 32)
    torch.testing.assert_close(batch[39], project(network, x[39:], layer="conv1", unit=2)[0])


def test_without_a_position_the_strongest_activation_is_taken():
    network, x = small(), torch.randn(1, 3, 32, 32)
    maps = network.activations(x, "conv2")[0]
    unit = strongest_unit(network, x, "conv2")
    assert maps[unit].max() == maps.max()
    row, column = divmod(int(maps[unit].argmax()), maps.shape[2])
    batch = project_batch(network, x, "conv2", torch.tensor([unit]))
    assert (batch.rows.item(), batch.columns.item()) == (row, column)
    assert batch.values.item() == pytest.approx(maps[unit].max().item(), rel=1e-6)
    explicit = project(network, x, layer="conv2", unit=unit, position=(row, column))
    torch.testing.assert_close(explicit.as_subclass(torch.Tensor), batch.pixels)


def test_the_start_is_the_activation_itself_or_one():
    network, x = small(), torch.randn(1, 3, 32, 32)
    unit = strongest_unit(network, x, "conv2")
    value = network.activations(x, "conv2")[0, unit].max()
    by_value, by_one = (project(network, x, layer="conv2", unit=unit, start=start) for start in ("activation", "one"))
    torch.testing.assert_close(by_value, by_one * value)


@pytest.mark.parametrize("start", ["activation", "one"])
def test_an_inactive_unit_projects_to_zeros(start):
    network, x = small(), torch.randn(1, 3, 32, 32)
    unit, row, column = (network.activations(x, "conv2")[0] == 0).nonzero()[0].tolist()
    assert not project(network, x, layer="conv2", unit=unit, position=(row, column), start=start).any()


def test_the_strongest_position_is_the_first_of_the_largest_in_row_major_order():
    maps = torch.zeros(3, 2, 4, 5)
    maps[0, 1, 2, 3] = maps[0, 1, 3, 0] = maps[0, 1, 2, 4] = 7.0
    maps[0, 0, 0, 0] = 9.0  # of a unit that is not asked for
    maps[1, 0] = -1.0
    maps[1, 0, 3, 4] = -0.5
    assert strongest_position(maps, torch.tensor([1, 0, 0])).tolist() == [[2, 3], [3, 4], [0, 0]]
    several = maps[:1].expand(2, -1, -1, -1)  # several units of one image
    assert strongest_position(several, torch.tensor([0, 1])).tolist() == [[0, 0], [2, 3]]
    assert strongest_position(torch.rand(2, 4, 1, 1), torch.tensor([3, 0])).tolist() == [[0, 0], [0, 0]]
    random = torch.randn(6, 3, 7, 4).round()
    for row, column, (image, unit) in zip(
        *strongest_position(random, torch.arange(6) % 3).T.tolist(), [(n, n % 3) for n in range(6)], strict=True
    ):
        positions = (random[image, unit] == random[image, unit].max()).nonzero()
        assert positions[0].tolist() == [row, column]


@pytest.mark.parametrize("allow_cropping", [True, False])
@pytest.mark.parametrize("layer", ["conv1", "conv2", "fc3"])
def test_a_batch_is_cropped_to_the_fields_moved_inside_the_input(layer, allow_cropping):
    network = small()
    rows, columns = network.layer(layer).map_size
    positions = torch.tensor([(0, 0), (rows - 1, columns - 1), (rows // 2, columns // 3)])
    x, units = torch.randn(3, 3, 32, 32), torch.tensor([0, 1, 2])
    batch = project_batch(network, x, layer, units, positions, allow_cropping=allow_cropping)
    crops = batch.crop(network.layer(layer))
    assert crops.shape == (3, 3, *(min(size, 32) for size in network.layer(layer).field.size))
    for crop, pixels, position in zip(crops, batch.pixels, positions.tolist(), strict=True):
        box = network.layer(layer).field.patch_box(*position)
        assert torch.equal(crop, pixels[:, box.top : box.bottom, box.left : box.right])
        assert crop.count_nonzero() == pixels.count_nonzero()  # nothing lies outside the crop


def test_a_fully_connected_unit_needs_no_position():
    network, x = small(), torch.randn(1, 3, 32, 32)
    unit = strongest_unit(network, x, "fc3")
    assert project(network, x, layer="fc3", unit=unit).abs().sum() > 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"layer": "conv9", "unit": 0}, "no layer 'conv9'; its layers are conv1, conv2, fc3"),
        ({"layer": "conv2", "unit": 7}, "no unit 7: its units are 0–6"),
        ({"layer": "conv2", "unit": -1}, "no unit -1"),
        ({"layer": "conv2", "unit": 0, "position": (6, 0)}, "are 6×6: a position is 0–5,0–5"),
        ({"layer": "conv2", "unit": [0, 1], "position": [(0, 0)] * 3}, "do not match"),
        ({"layer": "conv2", "unit": 0, "start": "two"}, "start is"),
        ({"layer": "conv2", "unit": 0, "rules": "guide"}, "no rules 'guide'; there are deconvnet, overwrite, differ"),
    ],
)
def test_invalid_arguments_are_one_sentence(arguments, sentence):
    with pytest.raises(UsageError, match=sentence):
        project(small(), torch.randn(1, 3, 32, 32), **arguments)


@pytest.mark.parametrize("shape", [(1, 3, 30, 32), (3, 32, 32), (1, 1, 32, 32)])
def test_an_input_of_another_shape_is_one_sentence(shape):
    with pytest.raises(UsageError, match=r"takes a tensor of shape \(N, 3, 32, 32\)"):
        project(small(), torch.randn(shape), layer="conv1", unit=0)


def test_numpy_and_torch_integers_are_accepted():
    network, x = small(), torch.randn(1, 3, 32, 32)
    maps = network.activations(x, "conv2")[0].numpy()
    unit, row, column = np.unravel_index(maps.argmax(), maps.shape)
    expected = project(network, x, layer="conv2", unit=int(unit), position=(int(row), int(column)))
    assert torch.equal(project(network, x, layer="conv2", unit=unit, position=(row, column)), expected)
    assert torch.allclose(project(network, x, layer="conv2", unit=torch.tensor([unit])), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("smooth", [nn.SiLU, nn.GELU, nn.Mish, nn.Hardswish, nn.LeakyReLU, nn.ELU, nn.PReLU])
def test_smoothed_relus_are_refused(smooth):
    module = nn.Sequential(nn.Conv2d(3, 2, 3), smooth(), nn.Conv2d(2, 2, 3), nn.ReLU())
    network = Network(module, torchvision_preprocessing(32, 32))
    x = torch.randn(1, 3, 32, 32)
    assert network.activations(x, "3").shape == (1, 2, 28, 28)  # it can be mined all the same
    for rules in set(RULES) - {"gradient"}:
        with pytest.raises(DeconvnetError, match="for which the paper has no rule"):
            project(network, x, layer="3", unit=0, rules=rules)


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 2, 3), nn.Conv2d(2, 2, 3)

    def forward(self, x):
        x = self.first(x).relu()
        return (self.second(x) * x.mean(dim=(2, 3), keepdim=True).sigmoid()).relu()


def test_gates_keep_their_gradient_with_one_warning():
    network, x = Network(Gated(), torchvision_preprocessing(32, 32)), torch.randn(1, 3, 32, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        project(network, x, layer="relu#1", unit=0)  # it lies before the gate
        project(network, x, layer="relu#2", unit=0, rules="gradient")  # needs no rule
    with pytest.warns(DeconvnetWarning, match=r"passes gates or the like \(mul, sigmoid\), for which the paper has no rule"):
        project(network, x, layer="relu#2", unit=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        project(network, x, layer="relu#2", unit=1)


def test_the_gradient_needs_no_rule():
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.SiLU(), nn.Conv2d(2, 2, 3), nn.ReLU())
    network = Network(module, torchvision_preprocessing(32, 32))
    x = torch.randn(2, 3, 32, 32, requires_grad=True)
    best = network.activations(x, "3")[:, 1].flatten(1).argmax(dim=1)
    (want,) = torch.autograd.grad(module(x)[[0, 1], 1, best // 28, best % 28].sum(), x)
    assert want.abs().sum() > 0
    torch.testing.assert_close(project(network, x, layer="3", unit=1, start="one", rules="gradient"), want)


def test_custom_rules():
    network, x = small(), torch.randn(1, 3, 32, 32)
    target = {"layer": "fc3", "unit": strongest_unit(network, x, "fc3")}
    guided = project(network, x, rules="guided", **target)
    assert torch.equal(project(network, x, rules=RULES["guided"], **target), guided)
    assert (project(network, x, **target) - guided).norm() > 0.01 * guided.norm()

    straight = Rules(rectify=lambda x, ceiling, inplace: x + (x.clamp(min=0) - x).detach())  # passes the signal unchanged
    maps, leaf = [], x.clone().requires_grad_()
    network.capture(leaf, ["fc3"], lambda _, output: maps.append(output), straight)
    (want,) = torch.autograd.grad(maps[0][0, target["unit"]].sum(), leaf)
    assert torch.equal(project(network, x, rules=straight, start="one", **target).as_subclass(torch.Tensor), want)


def state_of(module):
    hooks = [
        (
            len(submodule._forward_hooks),
            len(submodule._forward_pre_hooks),
            len(submodule._backward_hooks),
            len(submodule._backward_pre_hooks),
        )
        for submodule in module.modules()
    ]
    flags = [(type(submodule), submodule.training, getattr(submodule, "inplace", None)) for submodule in module.modules()]
    grads = [parameter.grad for parameter in module.parameters()]
    return hooks, flags, grads, [parameter.requires_grad for parameter in module.parameters()]


def test_module_and_input_are_unchanged_even_after_an_exception():
    network = small()
    module = network.module
    module.train()
    module[4].eval()  # mixed modes, which must be restored
    before, weights = state_of(module), deepcopy(module.state_dict())
    x = torch.randn(1, 3, 32, 32)
    x_before = x.clone()

    project(network, x, layer="conv2", unit=0)
    broken = module[5]
    module[5] = nn.Conv2d(9, 7, 3)  # expects more maps than it gets
    with pytest.raises(DeconvnetError, match=r"fails in 5 \(RuntimeError: Given groups=1, weight of size"):
        project(network, x, layer="conv2", unit=0)
    module[5] = broken

    assert state_of(module) == before
    assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())
    assert torch.equal(x, x_before)
    assert not x.requires_grad
    assert torch.is_grad_enabled()
    assert torch.overrides._get_current_function_mode() is None


def test_works_in_inference_mode_and_without_gradients():
    network, x = small(), torch.randn(1, 3, 32, 32)
    want = project(network, x, layer="conv2", unit=1)
    with torch.no_grad():
        assert torch.equal(project(network, x, layer="conv2", unit=1), want)
    with torch.inference_mode():
        assert torch.equal(project(network, x.clone(), layer="conv2", unit=1), want)


@pytest.mark.parametrize("rules", RULES)
def test_a_second_run_is_identical_to_the_bit(rules):
    network, x = small(), torch.randn(8, 3, 32, 32)
    runs = [project(network, x, layer="conv2", unit=4, rules=rules) for _ in range(2)]
    assert torch.equal(*runs)


NETWORKS = {
    "alexnet2012": lambda: (AlexNet2012(AlexNetOptions(classes=0)).eval(), 227),
    "zfnet": lambda: (ZFNet(ZFNetOptions(classes=0)).eval(), 224),
    "alexnet": lambda: (load("alexnet:random").module, 224),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_projection_is_zero_outside_the_receptive_field_and_reaches_its_edges(name):
    module, crop = NETWORKS[name]()
    for submodule in module.modules():
        if isinstance(submodule, nn.Conv2d):
            submodule.weight.data.abs_()  # nothing cancels, so the field is filled as far as the switches reach
    network = Network(module, torchvision_preprocessing(crop=crop))
    for layer in list(network.layers)[:5]:
        rows, columns = network.layer(layer).map_size
        for row, column in ((0, 0), (rows // 2, columns // 2), (rows - 1, 0), (2, columns - 1)):
            x = torch.rand(1, 3, crop, crop)
            down = project(network, x, layer=layer, unit=0, position=(row, column), start="one")[0].as_subclass(torch.Tensor)
            left, top, right, bottom = network.layer(layer).field.clipped_box(row, column)
            outside = down.clone()
            outside[:, top:bottom, left:right] = 0
            assert not outside.any()
            used = down.abs().amax(0).nonzero()
            slack = 24  # pooling need not have its switch at the edge
            assert used[:, 0].min() <= top + slack
            assert used[:, 0].max() >= bottom - 1 - slack
            assert used[:, 1].min() <= left + slack
            assert used[:, 1].max() >= right - 1 - slack


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("rules", RULES)
def test_a_gpu_agrees_with_the_cpu(rules):
    network, x = small(), torch.randn(8, 3, 32, 32)
    on_cpu = project(network, x, layer="conv2", unit=4, position=(2, 2), rules=rules)
    on_gpu = project(network.to("cuda"), x, layer="conv2", unit=4, position=(2, 2), rules=rules).cpu()
    assert (on_cpu - on_gpu).norm() <= 1e-5 * on_cpu.norm()
