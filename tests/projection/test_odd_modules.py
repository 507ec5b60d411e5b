"""Modules that compute something usual in an unusual way project as those that are written plainly."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

from deconvnet.data import torchvision_preprocessing
from deconvnet.errors import DeconvnetError, DeconvnetWarning
from deconvnet.models import Network, activation_cache, forward_patched
from deconvnet.projection import project_batch
from deconvnet.tracing import CroppedForward
from oracles.hand_placed_rules import Layers

SIZE = 20


class Odd(nn.Module):
    """Two convolutions and a classifier; `run(module, x)` is the forward pass."""

    def __init__(self, run):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, stride=2)
        self.relu, self.classifier, self.run = nn.ReLU(), nn.Linear(8, 4), run

    def forward(self, x):
        return self.run(self, x)

    def classify(self, maps):
        return self.classifier(maps.mean(dim=(2, 3)))


def plain(m, x, relu, between=lambda maps: maps):
    """What most of the modules here compute."""
    return m.classify(relu(m.b(between(relu(m.a(x))))))


def network_of(run):
    torch.manual_seed(0)
    return Network(Odd(run).double().eval(), torchvision_preprocessing(SIZE, SIZE))


def noise(count=2):
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def check_against_oracle(network, oracle, layer_count=2):
    """Projections, activations, outputs and occluded passes are those of `oracle(module, x, relu)`."""
    x, module = noise(), network.module
    assert len(network.layers) == layer_count
    with torch.no_grad():
        assert torch.allclose(network.output(x), oracle(module, x, F.relu), rtol=1e-9, atol=1e-12)
    for index, name in enumerate(network.layers):
        unit = int(network.activations(x, name)[0].flatten(1).amax(dim=1).argmax())
        pixels, layers = x[:1].clone().requires_grad_(), Layers()
        oracle(module, pixels, layers)
        maps = layers.maps[index].reshape(1, network.layer(name).units, -1)
        assert torch.allclose(network.activations(x[:1], name).reshape(maps.shape), maps, rtol=1e-9, atol=1e-12)
        place = int(maps[0, unit].argmax())
        signal = torch.zeros_like(maps)
        signal[0, unit, place] = maps[0, unit, place].detach()
        (expected,) = torch.autograd.grad(maps, pixels, signal)
        got = project_batch(network, x[:1], name, torch.tensor([unit])).pixels
        assert expected.any()
        assert torch.allclose(got, expected, rtol=1e-8, atol=1e-12)
    patches, corners = noise(3)[:, :, :5, :5], torch.tensor([[0, 0], [8, 3], [15, 15]])
    occluded = x[:1].repeat(3, 1, 1, 1)
    for image, patch, (row, column) in zip(occluded, patches, corners.tolist(), strict=True):
        image[:, row : row + 5, column : column + 5] = patch
    last = list(network.layers)[-1]
    output, maps = forward_patched(network, x[:1], activation_cache(network, x[:1]), patches, corners, last, 3)
    assert torch.allclose(output, oracle(module, occluded, F.relu), rtol=1e-9, atol=1e-12)


RELUS = {
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "maximum, the other way round": lambda x: torch.maximum(x.new_zeros(()), x),
    "max": lambda x: torch.max(x, torch.zeros((), dtype=x.dtype)),
    "a method": lambda x: x.maximum(torch.zeros(1, 1, 1, 1, dtype=x.dtype)),
    "clamp to a tensor": lambda x: x.clamp(min=torch.zeros(1, dtype=x.dtype)),
    "clamp_min to a tensor": lambda x: torch.clamp_min(x, torch.zeros_like(x)),
    "aten": torch.ops.aten.relu.default,
    "aten, in place": lambda x: torch.ops.aten.relu_(x),
    "aten's clamp": lambda x: torch.ops.aten.clamp.default(x, 0),
    "aten's hardtanh": lambda x: torch.ops.aten.hardtanh.default(x, 0.0, 1e9),
    "a module made in the forward pass": lambda x: nn.ReLU()(x),
    "a leaky one that does not leak": lambda x: F.leaky_relu(x, 0.0),
    "a parametric one of slope 0": lambda x: F.prelu(x, torch.zeros(8, dtype=x.dtype)),
    "a random one of slope 0": lambda x: F.rrelu(x, 0.0, 0.0),
    "an ELU without its exponential": lambda x: F.elu(x, alpha=0),
}


@pytest.mark.parametrize("name", RELUS)
def test_a_relu_is_one_however_it_is_written(name):
    with warnings.catch_warnings(action="error"):
        check_against_oracle(network_of(lambda m, x: plain(m, x, RELUS[name])), plain)


def assigned(x):
    x = x * 1
    x[x < 0] = 0
    return x


UNSEEN = {
    "a product": lambda x: x * (x > 0),
    "a choice": lambda x: torch.where(x > 0, x, 0),
    "masked": lambda x: x.masked_fill(x < 0, 0),
    "the absolute value": lambda x: (x + x.abs()) / 2,
    "assigned": assigned,
    "filled in place": lambda x: (x * 1).masked_fill_(x < 0, 0),
    "the largest of a stack": lambda x: torch.stack([x, torch.zeros_like(x)]).amax(0),
}


@pytest.mark.filterwarnings("ignore:Which pixels")
@pytest.mark.parametrize("name", UNSEEN)
def test_a_relu_that_is_not_known_for_one_is_said(name):
    def run(m, x, relu=F.relu):
        return m.classify(relu(m.b(UNSEEN[name](m.a(x)))))

    network = network_of(run)
    with pytest.warns(
        DeconvnetWarning, match=r"network computes a ReLU by \w+ \(test_odd_modules.py, line \d+\) in a way that"
    ):
        _ = network.layers
    with pytest.warns(DeconvnetWarning, match="passes gates or the like"):
        check_against_oracle(network, run, layer_count=1)


GATES = {
    "maximum with one": lambda x: torch.maximum(x, torch.ones_like(x)),
    "max with a number": lambda x: torch.max(x, torch.full((), 0.5, dtype=x.dtype)),
    "minimum": lambda x: torch.minimum(x, torch.full((), 0.5, dtype=x.dtype)),
    "the largest of a stack": lambda x: torch.stack([x, 0.1 + 0 * x]).amax(0),
}


@pytest.mark.parametrize("name", GATES)
def test_what_is_no_relu_is_differentiated_and_said(name):
    def run(m, x, relu=F.relu):
        return m.classify(relu(m.b(GATES[name](m.a(x)))))

    network = network_of(run)
    with pytest.warns(DeconvnetWarning, match="passes gates or the like"):
        check_against_oracle(network, run, layer_count=1)


def written_through_a_view(m, x, relu=None):
    maps, shifted = m.a(x), torch.zeros(len(x), 8, SIZE, SIZE, dtype=x.dtype)
    if relu is None:
        shifted[:, :, 1:].copy_(maps[:, :, :-1])
        return m.classify(F.relu(m.b(torch.maximum(shifted, torch.zeros(1, dtype=x.dtype)))))
    return m.classify(relu(m.b(relu(torch.cat([shifted[:, :, :1], maps[:, :, :-1]], dim=2)))))


def changed_through_a_view(m, x, relu=F.relu):
    maps = relu(m.a(x)) * 1
    maps.flatten(2).mul_(torch.tensor(2.0, dtype=x.dtype))
    return m.classify(relu(m.b(maps)))


def largest_of_channels(m, x, relu=F.relu):
    maps = relu(m.a(x))
    return m.classify(relu(m.b(maps + 0 * torch.max(maps, 1, True)[0])))


def clamped_to_tensors(m, x, relu=None):
    maps = m.a(x)
    zeros, nines = torch.zeros_like(maps), torch.full_like(maps, 9.0)
    maps = torch.clamp(maps, zeros, nines) if relu is None else maps.clamp(0, 9)
    return m.classify((relu or F.relu)(m.b(maps)))


ODD = {
    "signals written through a view": (written_through_a_view, 2),
    "maps changed through a view": (changed_through_a_view, 2),
    "the largest of the channels": (largest_of_channels, 2),
    "clamped to two tensors": (clamped_to_tensors, 1),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.filterwarnings("ignore:Which pixels", "ignore:The way down from", "ignore:network computes a ReLU")
def test_layers_are_those_of_the_trace_in_each_pass(name):
    run, count = ODD[name]
    check_against_oracle(network_of(run), run, count)


def test_hooks_that_retain_gradients_replace_no_output():
    network = network_of(lambda m, x: plain(m, x, F.relu))
    network.module.a.register_forward_hook(lambda m, inputs, output: output.retain_grad() if output.requires_grad else None)
    check_against_oracle(network, lambda m, x, relu: plain(m, x, relu))


@pytest.mark.filterwarnings("ignore:.*gates or the like")
@pytest.mark.parametrize("again", [nn.Dropout().eval(), nn.Identity(), lambda x: x.contiguous(), lambda x: x.to(x.dtype)])
def test_what_passes_on_a_relu_is_none(again):
    def run(m, x):
        maps = F.relu(m.a(x))
        return m.classify(again(F.relu(m.b(maps * maps.mean(dim=(2, 3), keepdim=True).sigmoid()))))

    with warnings.catch_warnings(action="error"):
        assert len(network_of(run).layers) == 2


class Rectify(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * (x > 0)

    @staticmethod
    def backward(ctx, signal):
        return signal * (ctx.saved_tensors[0] > 0)


@pytest.mark.filterwarnings("ignore:network computes a ReLU", "ignore:.*gates or the like")
def test_autograd_functions_of_the_module_s_own_are_said():
    def run(m, x, relu=F.relu):
        return m.classify(relu(m.b(Rectify.apply(m.a(x)))))

    network = network_of(run)
    with pytest.warns(DeconvnetWarning, match=r"passes custom autograd functions \(Rectify\)"):
        check_against_oracle(network, run, layer_count=1)


@pytest.mark.filterwarnings("ignore:.* has other activations on a crop")  # where gradients are computed, too
@pytest.mark.parametrize("asks", [lambda x: x.requires_grad, lambda x: torch.is_grad_enabled()])
def test_maps_that_are_others_where_gradients_are_computed_are_refused(asks):
    network = network_of(lambda m, x: plain(m, x, F.relu, lambda maps: maps * (2.0 if asks(x) else 1.0)))
    name = list(network.layers)[-1]
    with pytest.raises(DeconvnetError, match="has other activations where gradients are computed than elsewhere"):
        project_batch(network, noise(1), name, torch.tensor([1]))


def exported(dynamic):
    network = network_of(lambda m, x: plain(m, x, F.relu, lambda maps: F.max_pool2d(maps, 3, 2)))
    shapes = {"x": {0: torch.export.Dim("photos")}} if dynamic else None
    return network.module, torch.export.export(network.module, (noise(2 if dynamic else 1),), dynamic_shapes=shapes).module()


def test_an_exported_module_projects_as_the_original():
    module, twin = exported(dynamic=True)
    network = Network(twin, torchvision_preprocessing(SIZE, SIZE))
    assert list(network.layers) == ["relu#1", "relu#2"]
    check_against_oracle(network, lambda _, x, relu: plain(module, x, relu, lambda maps: F.max_pool2d(maps, 3, 2)))


def test_a_module_that_was_exported_for_one_photo_is_refused():
    with pytest.raises(DeconvnetError, match=r"takes one photo, but not three at once \(AssertionError: Guard failed"):
        _ = Network(exported(dynamic=False)[1], torchvision_preprocessing(SIZE, SIZE)).layers


def test_what_runs_without_gradients_is_named_and_left_out():
    def run(m, x, relu=F.relu):
        with torch.no_grad():
            branch = F.relu(m.a(x))
        return m.classify(relu(m.b(relu(m.a(x)) + branch)))

    network = network_of(run)
    name = list(network.layers)[-1]
    with pytest.warns(DeconvnetWarning, match=r"is cut at conv2d of a \(test_odd_modules.py, line \d+\), by torch.no_grad"):
        project_batch(network, noise(1), name, torch.tensor([1]))
    with warnings.catch_warnings(action="error"):  # once
        project_batch(network, noise(1), name, torch.tensor([2]))
    x, layers = noise(1).requires_grad_(), Layers()
    run(network.module, x, layers)
    signal = torch.zeros_like(layers.maps[1])
    at = divmod(int(layers.maps[1][0, 1].argmax()), layers.maps[1].shape[3])
    signal[0, 1, *at] = layers.maps[1][0, 1, *at].detach()
    (expected,) = torch.autograd.grad(layers.maps[1], x, signal)
    assert torch.allclose(project_batch(network, noise(1), name, torch.tensor([1])).pixels, expected, rtol=1e-8, atol=1e-12)


HOOKS = {
    "of a module": lambda m: m.relu.register_full_backward_hook(lambda module, down, up: (down[0] * (down[0] > 0) * 0,)),
    "before it": lambda m: m.b.register_full_backward_pre_hook(lambda module, up: (up[0] * 0,)),
    "of all modules": lambda m: nn.modules.module.register_module_full_backward_hook(lambda *_: None),
}


@pytest.mark.parametrize("name", HOOKS)
def test_hooks_on_backward_passes_are_put_aside_and_kept(name):
    network = network_of(lambda m, x: m.classify(m.relu(m.b(m.relu(m.a(x))))))
    twin = copy.deepcopy(network.module)
    handle = HOOKS[name](network.module)
    try:
        check_against_oracle(network, lambda _, x, relu: plain(twin, x, relu))
        assert handle.id in handle.hooks_dict_ref()
    finally:
        handle.remove()


def test_hooks_that_the_forward_pass_registers_do_nothing():
    def run(m, x):
        maps = F.relu(m.a(x))
        maps.register_hook(lambda signal: signal * 0).remove()
        maps.register_hook(lambda signal: signal * 0)
        maps.retain_grad()
        if maps.grad_fn is not None:
            maps.grad_fn.register_prehook(lambda signals: (signals[0] * 0,))
            assert maps.grad_fn.name()
        return m.classify(F.relu(m.b(maps)))

    check_against_oracle(network_of(run), plain)


def test_hooks_on_forward_passes_are_part_of_the_network():
    network = network_of(lambda m, x: m.classify(m.relu(m.b(m.relu(m.a(x))))))
    network.module.a.register_forward_hook(lambda module, inputs, output: output * 2)
    network.module.b.register_forward_pre_hook(lambda module, inputs: (inputs[0] / 4,))
    module = copy.deepcopy(network.module)
    module.a._forward_hooks.clear()
    module.b._forward_pre_hooks.clear()
    check_against_oracle(network, lambda _, x, relu: module.classify(relu(module.b(relu(2 * module.a(x)) / 4))))


PRUNED = {
    "pruned": lambda m: prune.random_unstructured(m.a, "weight", amount=0.5),
    "weight-normed": lambda m: nn.utils.parametrizations.weight_norm(m.a),
    "weight-normed by a hook": lambda m: nn.utils.weight_norm(m.a),
    "spectral-normed": lambda m: nn.utils.parametrizations.spectral_norm(m.a),
    "spectral-normed by a hook": lambda m: nn.utils.spectral_norm(m.a),
    "orthogonal": lambda m: nn.utils.parametrizations.orthogonal(m.b),
}


@pytest.mark.parametrize("name", PRUNED)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
def test_modules_whose_weights_are_made_anew_stay_exact(name):
    network = network_of(lambda m, x: plain(m, x, F.relu))
    PRUNED[name](network.module)
    network.module.double().eval()
    check_against_oracle(network, plain)


def test_weights_that_were_made_in_inference_mode_are_copied():
    with torch.inference_mode():
        module = Odd(lambda m, x: plain(m, x, F.relu)).double().eval()
    network = Network(module, torchvision_preprocessing(SIZE, SIZE))
    assert torch.equal(network.module.a.weight, module.a.weight)
    check_against_oracle(network, plain)


def test_reentrant_checkpointing_is_refused_by_name():
    network = network_of(lambda m, x: m.classify(F.relu(m.b(checkpoint(lambda y: F.relu(m.a(y)), x, use_reentrant=True)))))
    with (
        warnings.catch_warnings(action="ignore"),
        pytest.raises(DeconvnetError, match="reentrant checkpointing or the like"),
    ):
        project_batch(network, noise(1), list(network.layers)[-1], torch.tensor([0]))


def test_autocast_in_the_forward_pass():
    """As close to the projection without it as bfloat16 is to float32."""

    class Autocast(Odd):
        forward = torch.autocast("cpu", torch.bfloat16)(Odd.forward)

    def run(m, x):
        return plain(m, x, F.relu, lambda maps: F.avg_pool2d(maps, 2))

    torch.manual_seed(0)
    network = Network(Autocast(run).eval(), torchvision_preprocessing(SIZE, SIZE))
    exact = Network(Odd(run).eval(), torchvision_preprocessing(SIZE, SIZE))
    exact.module.load_state_dict(network.module.state_dict())
    for name in network.layers:
        units = torch.tensor([1, 2])
        expected = project_batch(exact, noise().float(), name, units)
        got = project_batch(network, noise().float(), name, units, torch.tensor(expected.positions()))
        assert expected.pixels.any()
        assert (got.pixels.float() - expected.pixels).norm() < 0.05 * expected.pixels.norm()


def test_quantised_products_are_no_way_down():
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 8), nn.ReLU())
    other = copy.deepcopy(module)
    torch.nn.init.normal_(other[4].weight)
    with warnings.catch_warnings(action="ignore"):
        networks = [
            Network(torch.ao.quantization.quantize_dynamic(each.eval(), {nn.Linear}), torchvision_preprocessing(SIZE, SIZE))
            for each in (module, other)
        ]
        assert len({network.digest for network in networks}) == 2
        # Either that, or that the range of the numbers is that of a batch, if it shows.
        with pytest.raises(DeconvnetError, match=r"(is cut at|from) linear_dynamic"):
            project_batch(networks[0], noise(1).float(), list(networks[0].layers)[-1], torch.tensor([1]))


def test_a_module_that_observes_its_input_is_refused_and_left_as_it_was():
    class Observing(Odd):
        def __init__(self):
            super().__init__(lambda m, x: plain(m, x, F.relu))
            self.register_buffer("largest", torch.zeros((), dtype=torch.float64))

        def forward(self, x):
            self.largest.copy_(torch.maximum(self.largest, x.max()))
            return super().forward(x)

    module = Observing().double().eval()
    for look in (lambda network: network.layers, lambda network: network.output(noise(1))):
        with pytest.raises(DeconvnetError, match=r"network changes its own buffers in each pass, .* \(largest\)"):
            look(Network(module, torchvision_preprocessing(SIZE, SIZE)))
        assert module.largest == 0


def test_activations_of_other_kinds_are_projected_by_their_gradient_alone():
    def run(m, x, silu=F.silu):
        return m.classify(silu(m.b(silu(m.a(x)))))

    network, x = network_of(run), noise(1)
    layers = []
    run(network.module, x.requires_grad_(), lambda maps: layers.append(F.silu(maps)) or layers[-1])
    for name, maps in zip(network.layers, layers, strict=True):
        position = torch.tensor([[2, 3]])
        got = project_batch(network, x, name, torch.tensor([5]), position, start="one", rules="gradient").pixels
        (expected,) = torch.autograd.grad(maps[0, 5, 2, 3], x, retain_graph=True)
        sign = 1.0 if maps[0, 5, 2, 3] > 0 else 0.0
        assert torch.allclose(got, sign * expected, rtol=1e-9, atol=1e-12)
        with pytest.raises(DeconvnetError, match="uses silu, for which the paper has no rule"):
            project_batch(network, x, name, torch.tensor([5]))


def test_what_a_module_raises_leaves_as_ours_with_its_path():
    def fail_later(m, x):
        if m.fails:
            m.b(m.a(x)[:, :3])
        return plain(m, x, F.relu)

    network = network_of(fail_later)
    network.module.fails = False
    layers = list(network.layers)
    network.module.fails = True
    for look in (
        lambda: network.output(noise(1)),
        lambda: network.activations(noise(1), layers[0]),
        lambda: project_batch(network, noise(1), layers[0], torch.tensor([0])),
    ):
        with pytest.raises(
            DeconvnetError, match=r"network fails in b \(test_odd_modules.py, line \d+; RuntimeError: Given groups"
        ):
            look()
    with pytest.raises(DeconvnetError, match=r"it fails in b \(test_odd_modules.py, line \d+; RuntimeError: Given groups"):
        _ = network_of(lambda m, x: m.b(m.a(x)[:, :3])).layers


def test_a_crop_that_gives_other_values_is_not_used(monkeypatch):
    network, x = network_of(lambda m, x: plain(m, x, F.relu)), noise()
    name, units, positions = list(network.layers)[-1], torch.tensor([1, 2]), torch.tensor([[3, 3], [2, 1]])
    monkeypatch.setattr(Network, "switch_plan", lambda network, name: None)
    values = network.activations(x, name)[torch.arange(2), units, *positions.T]
    expected = project_batch(network, x, name, units, positions, values=values)
    assert expected.pixels.any()
    crop_input = CroppedForward.crop_input
    monkeypatch.setattr(CroppedForward, "crop_input", lambda cropped, x: crop_input(cropped, x) + 0.1)
    with pytest.warns(DeconvnetWarning, match="has other activations on a crop to its receptive field than on the whole"):
        got = project_batch(network, x, name, units, positions, values=values)
    assert torch.allclose(got.pixels, expected.pixels, rtol=1e-9, atol=1e-12)
    with warnings.catch_warnings(action="error"):  # once, and also where the positions are looked for
        got = project_batch(network, x, name, units)
    assert torch.allclose(got.values, network.activations(x, name)[torch.arange(2), units].flatten(1).amax(dim=1))
