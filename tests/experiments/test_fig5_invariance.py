"""Transformations whose results are known, and distances of features that are."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deconvnet import DeconvnetError, UsageError
from deconvnet.data import find_images, torchvision_preprocessing
from deconvnet.experiments.class_labels import find_class
from deconvnet.experiments.fig5_invariance import TRANSFORMATIONS, measure_invariance, write_invariance
from deconvnet.experiments.fig5_invariance.transforms import rotated, scaled, translated
from deconvnet.models import Network

NAMES = ["conv1", "conv2", "fc3"]


@pytest.fixture
def files(photo_folder):
    return sorted(photo_folder.rglob("*.png"))[:3]


def classifier(small_network):
    classes = [("n1", "ant, emmet"), ("n2", "bee"), ("n3", "bee")]
    return Network(small_network.module, small_network.preprocessing, name="small", classes=classes, layer_names=NAMES)


def test_the_papers_ranges():
    ranges = {
        transformation.name: (transformation.values[0], transformation.values[-1]) for transformation in TRANSFORMATIONS
    }
    assert ranges == {"translation": (-60, 60), "scale": (1, 1.8), "rotation": (0, 350)}
    x = torch.randn(3, 16, 16)
    for transformation in TRANSFORMATIONS:
        assert torch.equal(transformation.apply(x, transformation.identity), x)
        assert transformation.identity in transformation.values


def test_moving_vacates_with_zeros():
    x = torch.rand(3, 8, 8) + 1
    down = translated(x, 3)
    assert torch.equal(down[:, 3:], x[:, :5])
    assert not down[:, :3].any()
    up = translated(x, -2)
    assert torch.equal(up[:, :6], x[:, 2:])
    assert not up[:, 6:].any()
    assert not translated(x, 8).any()
    assert not translated(x, -60).any()


def test_turning_is_anticlockwise():
    x = torch.randn(3, 9, 9)
    for quarter in (1, 2, 3):
        torch.testing.assert_close(rotated(x, 90 * quarter), torch.rot90(x, quarter, (1, 2)), atol=1e-4, rtol=0)
    corner = rotated(torch.ones(3, 9, 9), 45)
    assert corner[:, 0, 0].tolist() == [0, 0, 0]
    assert corner[:, 4, 4].tolist() == pytest.approx([1, 1, 1])


def test_enlarging_keeps_the_centre_and_cuts_the_border():
    x = torch.arange(9.0).expand(3, 9, 9).clone()
    twice = scaled(x, 2)
    torch.testing.assert_close(twice[0, 4], torch.linspace(2, 6, 9))
    assert twice.min() >= 2


def test_distances_are_of_features_of_length_1(small_network, files):
    network = classifier(small_network)
    result = measure_invariance(network, files, batch_size=7)
    assert result.layers == ("conv1", "fc3")
    for number in range(3):
        x = network.preprocess(result.image_set.read(number))
        scores = network.probabilities(x[None])[0]
        for curves in result.curves.values():
            values = curves.transformation.values
            for index in (0, 1, len(values) - 1):
                y = curves.transformation.apply(x, values[index])
                for layer, distances in zip(("conv1", "fc3"), curves.distances, strict=True):
                    f, g = (network.activations(image[None], layer).flatten().double() for image in (x, y))
                    expected = (f / f.norm() - g / g.norm()).norm().item()
                    assert distances[number, index].item() == pytest.approx(expected, abs=1e-5)
                probability = network.probabilities(y[None])[0, scores.argmax()].item()
                assert curves.probability[number, index].item() == pytest.approx(probability, abs=1e-5)
            assert curves.distances[0, number, values.index(curves.transformation.identity)] == 0
            assert (curves.distances[0] <= math.sqrt(2) + 1e-9).all()


def test_what_is_near_is_said_of_many_classes(small_network, monkeypatch):
    many = classifier(small_network)
    monkeypatch.setattr("deconvnet.experiments.class_labels._MAX_LISTED_CLASSES", 2)
    for label, hint in (("emet", "there is emmet"), ("truck", "pass its id, its name or its number")):
        with pytest.raises(UsageError, match=hint):
            find_class(many, label)
    many.classes = (("n1", "garbage truck, dustcart"), ("n2", "fire engine"), ("n3", "bee"))
    with pytest.raises(UsageError, match="there is garbage truck"):
        find_class(many, "truck")


def test_the_class_may_be_given(small_network, files):
    network = classifier(small_network)
    for label in ("n1", "Emmet", "ant, emmet", "0"):
        result = measure_invariance(network, files[:1], label)
        assert (result.classes, result.class_given) == (["ant"], True)
        x = network.preprocess(result.image_set.read(0))[None]
        assert result.curves["scale"].probability[0, 0].item() == pytest.approx(
            network.probabilities(x)[0, 0].item(), abs=1e-6
        )
    for label, sentence in (
        ("wasp", "has no class 'wasp'"),
        ("emet", r"its classes are n1 \(ant, emmet\), n2 \(bee\), n3 \(bee\)\."),
        ("bee", "2 classes called 'bee': pass one of n2, n3"),
        ("3", "has the classes 0 to 2, not 3"),
    ):
        with pytest.raises(UsageError, match=sentence):
            measure_invariance(network, files[:1], label)


def test_a_trunk_has_no_probabilities(small_network, files):
    trunk = Network(small_network.module, small_network.preprocessing, classifies=False)
    result = measure_invariance(trunk, files[:1])
    assert result.classes is result.curves["scale"].probability is None
    result.figures()["invariance"].savefig("/dev/null", format="png")
    with pytest.raises(UsageError, match="has no classifier, so it knows no class"):
        measure_invariance(trunk, files[:1], "ant")


def test_dead_layers_and_tiny_photos(tmp_path):
    Image.fromarray(np.full((3, 2, 3), 120, np.uint8)).save(tmp_path / "tiny.png")
    module = nn.Sequential(
        nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 30 * 30, 4), nn.ReLU(), nn.Linear(4, 2)
    )
    with torch.no_grad():
        module[0].weight.zero_()
        module[0].bias.fill_(-1)
    result = measure_invariance(Network(module.eval(), torchvision_preprocessing(32, 32)), [tmp_path / "tiny.png"])
    for curves in result.curves.values():
        assert not curves.distances[0].any()
    assert sum("nothing changes" in line for line in result.findings) >= 3
    json.dumps(result.as_json(), allow_nan=False)


def test_it_writes_a_picture_and_all_numbers(small_network, files, tmp_path):
    network = classifier(small_network)
    result = write_invariance(tmp_path / "out", network, files)
    written = json.loads((tmp_path / "out" / "invariance.json").read_text())
    assert written == json.loads(json.dumps(result.as_json(), allow_nan=False))
    assert written["network"] == network.full_name
    assert written["images"]["digest"] == find_images(files).digest
    with Image.open(tmp_path / "out" / "invariance.png") as picture:
        assert min(picture.size) > 800


def test_a_photo_that_cannot_be_read_is_named(small_network, photo_folder):
    with pytest.raises(DeconvnetError, match=r"broken\.jpg"):
        measure_invariance(small_network, [photo_folder / "bee" / "broken.jpg"])
    with pytest.raises(DeconvnetError, match="There is no file"):
        measure_invariance(small_network, [photo_folder / "gone.jpg"])


def test_a_class_is_called_by_its_name_even_if_that_is_a_number(small_network, files):
    classes = [("", "2"), ("", "0"), ("", "1")]
    network = Network(small_network.module, small_network.preprocessing, classes=classes)
    result = measure_invariance(network, files[:1], "2")
    x = network.preprocess(result.image_set.read(0))[None]
    assert result.curves["scale"].probability[0, 0].item() == pytest.approx(network.probabilities(x)[0, 0].item(), abs=1e-6)


def test_in_half_precision_and_with_an_output_that_is_no_scores(small_network, files):
    network = Network(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3600, 2)), torchvision_preprocessing(32, 32)
    )
    network.module.bfloat16()
    assert measure_invariance(network, files[:1]).curves["scale"].distances[1, 0, 0] == 0
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    maps = Network(module, torchvision_preprocessing(32, 32), name="maps", classifies=True)
    with pytest.raises(DeconvnetError, match=r"maps (cannot be judged|gives a tensor of shape)"):
        measure_invariance(maps, files[:1])
    assert measure_invariance(Network(module, torchvision_preprocessing(32, 32)), files[:1]).classes is None
    with pytest.raises(UsageError, match="0 photos cannot go through"):
        measure_invariance(network, files[:1], batch_size=0)


@pytest.mark.usefixtures("bars_that_end")
def test_on_the_command_line(network_file, files, tmp_path, deconvnet_command):
    out = tmp_path / "out"
    words = ["invariance", f"{network_file}:one", files[0], "--label", "Cat", "--out", out, "--device", "cpu"]
    code, printed, _ = deconvnet_command(*words)
    assert code == 0
    assert f"Wrote {out / 'invariance.png'}" in printed
    assert json.loads((out / "invariance.json").read_text())["classes"] == ["cat"]
