"""A float16 network whose activations add up to more than float16 holds (65,504): right, or refused."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from deconvnet import DeconvnetError, mine, project
from deconvnet.data import find_images, torchvision_preprocessing
from deconvnet.experiments.class_labels import predict_class
from deconvnet.experiments.fig4_evolution.convergence import similarity
from deconvnet.experiments.fig5_invariance import measure_invariance
from deconvnet.experiments.fig7_occlusion import Occluder, occlude
from deconvnet.experiments.table2_errors import evaluate
from deconvnet.local_response_norm import local_response_norm
from deconvnet.models import Network
from deconvnet.models.rounding_error import rounding_errors
from deconvnet.projection import strongest_unit

MAX = torch.finfo(torch.float16).max


def network_of(module):
    return Network(module, torchvision_preprocessing(32, 32), layer_names=["conv1", "conv2", "fc3"])


@pytest.fixture
def half(small_network):
    """A network with large activations, none of which overflows."""
    module = copy.deepcopy(small_network.module)
    module[2] = nn.Identity()  # PyTorch has no float16 normalisation on CPUs
    with torch.no_grad():
        module[0].weight *= 3000
        module[4].weight *= 3
        module[7].weight *= 1e-3
    return network_of(module.half())


@pytest.fixture
def exact(half):
    """The same weights, in float32."""
    return network_of(copy.deepcopy(half.module).float())


@pytest.fixture
def overflowing(half):
    """Its scores are infinite."""
    half.module[9].weight.data.fill_(MAX)
    half.module[7].bias.data.fill_(MAX / 2)
    return half


def test_the_statistics_of_mining_are_right(half, exact, photo_folder):
    mined, expected = (mine(network, photo_folder) for network in (half, exact))
    for layer in ("conv1", "conv2"):
        statistics = mined[layer].statistics
        assert float(statistics.sums.max()) > MAX
        torch.testing.assert_close(statistics.sums, expected[layer].statistics.sums, rtol=1e-2, atol=100)


def test_activations_that_overflow_are_refused(half, photo_folder):
    half.module[0].weight.data.mul_(15)
    with pytest.raises(DeconvnetError, match="conv1 of network gives inf"):
        mine(half, photo_folder)


def test_projections_that_overflow_are_refused(half, photo_folder):
    x = half.preprocess(find_images(photo_folder / "ant").read(0))[None]
    half.module[0].weight.data.mul_(4)
    assert half.activations(x, "conv2").isfinite().all()
    with pytest.raises(DeconvnetError, match=r"Projections of conv2 of network are not finite: .* overflow in float16"):
        project(half, x, layer="conv2", unit=strongest_unit(half, x, "conv2"))


def test_totals_and_probabilities_with_an_occluder_are_right(half, exact, photo_folder):
    photos = [photo_folder / "ant" / "00.png"]
    for network in (half, exact):  # large by its biases, so that projections do not overflow
        network.module[0].weight.data /= 100
        network.module[4].bias.data += 2000
    found, expected = (occlude(network, photos, Occluder(8, 8)).occluded_images[0] for network in (half, exact))
    assert found.activation_map.min() > MAX
    np.testing.assert_allclose(found.activation_map, expected.activation_map, rtol=1e-2)
    np.testing.assert_allclose(found.probability_map, expected.probability_map, atol=1e-2)


def test_lengths_of_feature_vectors_are_right(half, exact, photo_folder):
    photos = [photo_folder / "ant" / "00.png"]
    found, expected = (measure_invariance(network, photos).curves["scale"] for network in (half, exact))
    for curve in ("distances", "probability"):
        values, expected_values = getattr(found, curve), getattr(expected, curve)
        for name in values if isinstance(values, dict) else [...]:
            torch.testing.assert_close(values[name], expected_values[name], rtol=0.05, atol=0.02)


def test_correlations_of_units_are_right(half, exact, photo_folder):
    image_set = find_images(photo_folder / "cat")
    for layer, values in similarity(half, exact, image_set, range(4)).items():
        assert float(values[~values.isnan()].min()) > 0.999, layer


def test_scores_that_overflow_are_refused(overflowing, photo_folder):
    x = overflowing.preprocess(find_images(photo_folder / "ant").read(0))
    assert not overflowing.probabilities(x[None]).isfinite().any()
    photos = [photo_folder / "ant" / "00.png"]
    (photo_folder / "bee" / "broken.jpg").unlink()
    for compute in (
        lambda: predict_class(overflowing, x),
        lambda: evaluate([overflowing], photo_folder, 1),
        lambda: occlude(overflowing, photos, Occluder(8, 8)),
        lambda: occlude(overflowing, photos, Occluder(8, 8), label="1"),
        lambda: measure_invariance(overflowing, photos),
        lambda: measure_invariance(overflowing, photos, "1"),
    ):
        with pytest.raises(DeconvnetError, match=r"no numbers: .*overflow in float16 \(network\.module\.float\(\)"):
            compute()


@pytest.mark.parametrize("layer", ["conv1", "conv2"])
def test_a_projection_is_right_although_its_signal_times_the_maps_overflows(half, photo_folder, layer):
    """Autograd sends the gradient of that sum down, and never looks at the sum itself."""
    half.module[0].weight.data.div_(100)
    half.module[0].bias.data.add_(3000)  # large activations, but a picture within the range of float16
    x = half.preprocess(find_images(photo_folder / "ant").read(0))[None]
    found, of_one = (project(half, x, layer=layer, unit=1, start=start) for start in ("activation", "one"))
    assert found.activations[0] ** 2 > MAX
    expected = of_one.as_subclass(torch.Tensor).float() * found.activations[0]
    assert 0 < float(expected.abs().max()) < MAX
    difference = found.as_subclass(torch.Tensor).float() - expected
    assert float(difference.abs().max()) < 0.01 * float(expected.abs().max())


def test_measured_rounding_is_that_of_float16(half):
    for error in rounding_errors(half).values():
        assert torch.finfo(torch.float16).eps <= error < 0.1


def test_local_response_norm_squares_in_float32():
    maps = torch.rand(1, 8, 5, 5, dtype=torch.float64) * 60_000
    expected = nn.functional.local_response_norm(maps.half().double(), 3, alpha=0.5)
    found = local_response_norm(maps.half(), 3, alpha=0.5)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.double(), expected, rtol=2e-3, atol=1e-6)
