"""Occlusion maps: against the plain loop, and where the answer is known."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deconvnet import DeconvnetError, UsageError, mine, project
from deconvnet.data import find_images, torchvision_preprocessing
from deconvnet.experiments.fig7_occlusion import Occluder, occlude, write_occlusion
from deconvnet.models import Network
from oracles import plain_occlusion

CLASSES = [("ant", "ant"), ("bee", "bee"), ("cat", "cat, tom cat")]


@pytest.fixture
def network(small_network):
    return Network(small_network.module, small_network.preprocessing, name="small", classes=CLASSES)


@pytest.fixture
def files(photo_folder):
    return [photo_folder / "ant" / "00.png", photo_folder / "bee" / "01.png"]


def region_network(rows, columns, size=40):
    """Whose class 0 is decided by the brightness of one region alone, and whose one unit sees only that."""
    module = nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(size * size, 2))
    with torch.no_grad():
        module[0].weight.fill_(1.0)
        module[0].bias.fill_(3.0)
        module[3].bias.zero_()
        module[3].weight.zero_()
        weights = module[3].weight.view(2, size, size)
        weights[0, rows, columns] = 0.001
        weights[1, rows, columns] = -0.001
    return Network(module.eval(), torchvision_preprocessing(size, size), name="region", classes=CLASSES[:2])


@pytest.mark.parametrize(
    ("size", "stride", "batch_size", "colour"),
    [
        (7, 4, 32, None),
        (5, 3, 7, (200, 10, 90)),
        (1, 13, 1, None),
        (32, 5, 3, None),
        (31, 1, 2, (0, 0, 0)),
        (12, 9, 5, None),
    ],
)
def test_maps_are_those_of_the_plain_loop(network, files, size, stride, batch_size, colour):
    result = occlude(network, files, Occluder(size, stride, colour), batch_size=batch_size)
    input_colour = torch.zeros(3)
    if colour is not None:
        preprocessing = network.preprocessing
        input_colour = (
            torch.tensor(colour) / 255 * preprocessing.scale - preprocessing.mean.flatten()
        ) / preprocessing.std.flatten()
    layer = result.layer
    for index, image in enumerate(result.occluded_images):
        x = network.preprocess(result.image_set.read(index))
        scores = plain_occlusion.occlude(network.module, x, size, stride, input_colour)
        maps = plain_occlusion.occlude(lambda version: network.activations(version, layer), x, size, stride, input_colour)
        count = len(result.starts)
        assert image.activation_map.shape == image.probability_map.shape == image.prediction_map.shape == (count, count)
        assert len(scores) == count**2
        for (top, left), output in scores.items():
            position = top // stride, left // stride
            probabilities = output.softmax(dim=1)[0]
            assert image.probability_map[position] == pytest.approx(
                float(probabilities[index]), abs=1e-5
            )  # its folder: ant, bee
            assert image.prediction_map[position] == int(probabilities.argmax())
            assert image.activation_map[position] == pytest.approx(
                float(maps[top, left][0, image.unit].sum()), rel=1e-5, abs=1e-5
            )


def test_the_region_that_decides_alone_is_what_the_map_shows(tmp_path):
    network, file = region_network(slice(8, 20), slice(24, 32)), tmp_path / "grey.png"
    Image.new("RGB", (40, 40), (255, 255, 255)).save(file)
    image = occlude(network, [file], Occluder(6, 2, (0, 0, 0))).occluded_images[0]
    starts = np.arange(0, 35, 2)
    overlaps = ((starts + 6 > 8) & (starts < 20))[:, None] & ((starts + 6 > 24) & (starts < 32))
    assert overlaps.any()
    assert not overlaps.all()
    assert (image.probability_map[overlaps] < image.clean_probability - 1e-6).all()
    np.testing.assert_allclose(image.probability_map[~overlaps], image.clean_probability, atol=1e-6)
    inside = np.ix_(starts[(starts >= 8) & (starts + 6 <= 20)] // 2, starts[(starts >= 24) & (starts + 6 <= 32)] // 2)
    np.testing.assert_allclose(image.probability_map[inside], image.probability_map.min(), atol=1e-6)


def test_the_unit_is_the_strongest_and_its_pictures_are_projections(network, files, photo_folder):
    result = occlude(network, files, Occluder(9, 8), search_images=photo_folder)
    hits = mine(network, photo_folder, [result.layer], 5)[result.layer]
    for index, image in enumerate(result.occluded_images):
        x = network.preprocess(result.image_set.read(index))[None]
        maps = network.activations(x, result.layer)[0]
        assert image.unit == int(maps.flatten(1).amax(dim=1).argmax())
        assert image.clean_activation == pytest.approx(float(maps[image.unit].sum()), rel=1e-6)
        whole = project(network, x, layer=result.layer, unit=image.unit)[0]
        assert image.projection.abs().max() == pytest.approx(float(whole.abs().max()), rel=1e-5)
        best = [hit.path for hit in hits[image.unit] if hits.image_set.file(hit.image) != files[index]]
        assert [hit.path for hit, _ in image.other_hits] == best[:3]
        assert len(image.other_hits) == 3
    assert result.num_searched == len(find_images(photo_folder))


def test_the_class_is_the_label_the_folder_or_the_prediction(network, files, tmp_path):
    by_folder = occlude(network, files, Occluder(20, 12))
    assert [(image.class_name, image.class_source) for image in by_folder.occluded_images] == [
        ("ant", "folder"),
        ("bee", "folder"),
    ]
    by_label = occlude(network, files, Occluder(20, 12), label="tom cat")
    assert [(image.class_name, image.class_source) for image in by_label.occluded_images] == [("cat", "label")] * 2
    elsewhere = tmp_path / "photo.png"
    elsewhere.write_bytes(files[0].read_bytes())
    predicted = occlude(network, [elsewhere], Occluder(20, 12)).occluded_images[0]
    x = network.preprocess(find_images([elsewhere]).read(0))[None]
    best = int(network.probabilities(x).argmax())
    assert (predicted.class_name, predicted.class_source) == (CLASSES[best][0], "prediction")


def test_maps_are_drawn_where_the_occluder_was(network, files):
    result = occlude(network, files, Occluder(10, 7))
    assert list(result.starts) == [0, 7, 14, 21]
    figure = result.figure()
    maps = [axes.images[0] for axes in figure.axes if axes.images and axes.images[0].get_array().shape == (4, 4)]
    assert len(maps) == 6  # activation, probability and class of two photos
    for image in maps:
        assert image.get_extent() == [1.5, 29.5, 29.5, 1.5]  # centres are at 5 to 26
        assert image.axes.get_xlim() == (0, 32)
        assert image.axes.get_ylim() == (32, 0)
    assert "the last 1 pixels" in figure.texts[-1].get_text()
    for image in result.occluded_images:
        x = network.preprocess(result.image_set.read(result.occluded_images.index(image)))[None]
        assert image.clean_prediction == int(network.probabilities(x).argmax())
        assert f"without occluder {image.class_names[image.clean_prediction]}" in [axes.get_xlabel() for axes in figure.axes]
        assert f"most probable is {image.class_names[image.clean_prediction]} without it" in image.finding


def test_a_class_has_one_colour_in_all_rows(network, files):
    result = occlude(network, files, Occluder(9, 8))
    patches = {}
    for axes in result.figure().axes:
        if (legend := axes.get_legend()) is not None:
            for handle, text in zip(legend.get_patches(), legend.get_texts(), strict=True):
                patches.setdefault(text.get_text(), set()).add(handle.get_facecolor())
    assert patches
    assert all(len(colours) == 1 for colours in patches.values())
    assert len({colours.pop() for colours in patches.values()}) == len(patches)


def test_a_disc_covers_what_lies_in_the_circle(small_network):
    disc = Occluder(5, shape="disc").mask
    assert disc.int().tolist() == [[0, 1, 1, 1, 0], [1] * 5, [1] * 5, [1] * 5, [0, 1, 1, 1, 0]]
    x = torch.ones(3, 8, 8)
    window = Occluder(5, shape="disc").occluded_windows(x, torch.tensor([[1, 2]]), small_network)
    assert torch.equal(window[0] == 0, disc.expand(3, 5, 5))


def test_a_trunk_has_a_map_of_its_unit_and_says_what_it_cannot(small_network, files, tmp_path):
    module = small_network.module[:6]
    trunk = Network(module, small_network.preprocessing, name="trunk", classifies=False)
    result = write_occlusion(tmp_path / "out", trunk, files, Occluder(9, 8))
    assert all(
        image.probability_map is None and image.prediction_map is None and image.class_name == ""
        for image in result.occluded_images
    )
    assert all(image.activation_map.shape == (3, 3) for image in result.occluded_images)
    texts = [text.get_text() for axes in result.figure().axes for text in axes.texts]
    assert texts.count("These weights have\nno classifier.") == 4
    written = json.loads((tmp_path / "out" / "occlusion.json").read_text())
    assert written["photos"][0]["probability"] is None
    assert written["images"]["digest"] == find_images(files).digest


@pytest.mark.parametrize(
    ("occluder", "sentence"),
    [
        ({"size": 33}, r"33 pixels does not fit into a view of 32"),
        ({"size": 0}, r"size and a stride of at least 1"),
        ({"stride": 0}, r"size and a stride of at least 1"),
        ({"colour": (0, 256, 0)}, r"three numbers from 0 to 255"),
        ({"shape": "star"}, r"a square or a disc, not 'star'"),
    ],
)
def test_what_is_no_occluder_is_refused(network, files, occluder, sentence):
    with pytest.raises(UsageError, match=sentence):
        occlude(network, files, Occluder(**occluder))


def test_other_wrong_input_is_refused(network, files, photo_folder):
    with pytest.raises(UsageError, match="dog"):
        occlude(network, files, Occluder(9, 8), label="dog")
    with pytest.raises(DeconvnetError, match=r"photos.* is a folder: pass photos"):
        occlude(network, [photo_folder], Occluder(9, 8))
    with pytest.raises(DeconvnetError, match=r"broken\.jpg"):
        occlude(network, [photo_folder / "bee" / "broken.jpg"], Occluder(9, 8))
    with pytest.raises(UsageError, match="0 positions"):
        occlude(network, files, Occluder(9, 8), batch_size=0)
    dense = Network(nn.Sequential(nn.Flatten(), nn.Linear(3072, 4), nn.ReLU(), nn.Linear(4, 3)), network.preprocessing)
    with pytest.raises(DeconvnetError, match="no convolutional layer"):
        occlude(dense, files, Occluder(9, 8))


@pytest.mark.usefixtures("bars_that_end")
def test_on_the_command_line(network_file, files, tmp_path, deconvnet_command):
    out = tmp_path / "out"

    def run(*words):
        return deconvnet_command("occlude", f"{network_file}:one", files[0], "--out", out, "--device", "cpu", *words)

    code, _, error = run("--size", 300)
    assert (code, out.exists()) == (2, False)
    assert "does not fit" in error
    code, _, error = run("--colour", "1,2")
    assert code == 2
    assert "--colour takes 3 numbers" in error
    code, printed, _ = run("--size", 20, "--stride", 18, "--shape", "disc", "--colour", "0,0,255")
    assert code == 0
    assert f"Wrote {out / 'occlusion.png'}" in printed
    written = json.loads((out / "occlusion.json").read_text())
    assert written["occluder"] == {"size": 20, "stride": 18, "shape": "disc", "colour": [0, 0, 255]}
    assert written["photos"][0]["class_by"] == "folder"
    with Image.open(out / "occlusion.png") as picture:
        assert picture.width > 1000
