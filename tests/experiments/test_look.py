import pytest
import torch

from deconvnet.data import read_image
from deconvnet.experiments.look import look
from deconvnet.models import Network
from deconvnet.projection import project


@pytest.fixture
def image(photo_folder):
    return read_image(photo_folder / "ant" / "00.png")


def test_units_are_the_most_driven_ones_with_their_projections(small_network, image):
    x = small_network.preprocess(image)[None]
    result = look(small_network, image, "ant", units=3)
    assert list(result.layers) == ["conv1", "conv2", "fc3"]
    for layer, units in result.layers.items():
        maps = small_network.activations(x, layer)[0]
        maxima = maps.reshape(len(maps), -1).amax(1)
        order = [u for u in maxima.argsort(descending=True).tolist() if maxima[u] > 0][:3]
        assert [unit.unit for unit in units] == order
        for unit in units:
            assert unit.value == pytest.approx(maxima[unit.unit].item())
            left, top, right, bottom = unit.box
            expected = project(small_network, x, layer=layer, unit=unit.unit)[0].as_subclass(torch.Tensor)
            torch.testing.assert_close(unit.projection, expected[:, top:bottom, left:right])
            expected[:, top:bottom, left:right] = 0
            assert not expected.any()
            torch.testing.assert_close(unit.feature_map.flatten(), maps[unit.unit].flatten())


def test_classes_are_the_most_probable(small_network, image):
    network = Network(
        small_network.module, small_network.preprocessing, classes=[("n1", "ant"), ("n2", "bee"), ("n3", "cat")]
    )
    probabilities = network.probabilities(network.preprocess(image)[None])[0]
    result = look(network, image)
    assert [name for name, _ in result.classes] == [("ant", "bee", "cat")[i] for i in probabilities.argsort(descending=True)]
    assert sum(p for _, p in result.classes) == pytest.approx(1, abs=1e-5)


def test_a_trunk_is_looked_at_without_classes(small_network, image):
    network = Network(small_network.module, small_network.preprocessing, weights="p$x^^{$", classifies=False)
    result = look(network, image, "it costs $5^{ or $6.jpg")  # no mathematics
    assert result.classes is None
    assert result.as_json()["classes"] is None
    result.figure().savefig("/dev/null", format="png")


def test_a_photo_that_drives_nothing_draws_too(small_network, image):
    with torch.no_grad():
        small_network.module[4].weight.zero_()
        small_network.module[4].bias.fill_(-1)
    result = look(small_network, image)
    assert result.layers["conv2"] == []
    result.figure().savefig("/dev/null", format="png")
