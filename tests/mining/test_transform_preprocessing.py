"""A network whose images go through a transform does everything that one with the same `Preprocessing` does."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import transforms as tv

from deconvnet import Atlas, Network, UsageError, mine, torchvision_preprocessing
from deconvnet.data import TransformPreprocessing, find_images, find_splits, pack
from deconvnet.errors import DeconvnetError
from deconvnet.experiments.fig6_comparison import compare
from deconvnet.experiments.table2_errors import evaluate

NORMALISE = tv.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
USUAL = tv.Compose([tv.Resize(40), tv.CenterCrop(32), tv.ToTensor(), NORMALISE])


def network(preprocessing, classes=3):
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(96, classes)
    )
    return Network(module, preprocessing, name="small")


@pytest.fixture
def both():
    """With a `Preprocessing`, and with the transform that it stands for."""
    ours, theirs = network(torchvision_preprocessing(40, 32)), network(USUAL)
    assert isinstance(theirs.preprocessing, TransformPreprocessing)
    return ours, theirs


@pytest.fixture
def photos(tmp_path):
    for number in range(9):
        pixels = np.random.default_rng(number).integers(0, 256, (50 + number, 70, 3), dtype=np.uint8)
        file = tmp_path / "photos" / "abc"[number % 3] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    return tmp_path / "photos"


def test_the_same_hits_are_found(both, photos):
    ours, theirs = (mine(net, photos, layers=["1"])["1"] for net in both)
    for unit in range(6):
        for our_hit, their_hit in zip(ours[unit], theirs[unit], strict=True):
            assert (our_hit.path, our_hit.box) == (their_hit.path, their_hit.box)
            assert their_hit.value == pytest.approx(our_hit.value, rel=1e-4)


def test_the_same_atlas_is_built_and_says_what_made_it(both, photos, tmp_path):
    books = [Atlas.build(net, photos, tmp_path / name, ["1"]) for net, name in zip(both, ("ours", "theirs"), strict=True)]
    pictures = [np.asarray(Image.open(book.folder / "1" / "0000.webp"), dtype=int) for book in books]
    assert np.abs(pictures[0] - pictures[1]).max() <= 2
    stated = json.loads((books[1].folder / "atlas.json").read_text())["preprocessing"]
    assert stated["transform"] == "Compose"
    assert len(stated["probe"]) == 64
    assert stated["crop"] == 32


def test_another_transform_does_not_resume_an_atlas(photos, tmp_path):
    state = tmp_path / "state.safetensors"
    mine(network(USUAL), photos, layers=["1"], state=state)
    other = tv.Compose([tv.Resize(41), tv.CenterCrop(32), tv.ToTensor(), NORMALISE])
    with pytest.raises(DeconvnetError, match="another preprocessing"):
        mine(network(other), photos, layers=["1"], state=state)


def test_errors_are_measured_with_one_view(both, photos):
    ours, theirs = (evaluate([net], photos, views=1) for net in both)
    assert ours.networks[0].top1 == theirs.networks[0].top1
    together = evaluate(list(both), photos, views=1)
    assert [entry.top1 for entry in together.networks] == [ours.networks[0].top1] * 2
    with pytest.raises(DeconvnetError, match="a transform, which makes one view of each, and showing it ten"):
        evaluate([both[1]], photos, views=10)


def test_shifted_views_are_refused(both, photos):
    with pytest.raises(DeconvnetError, match="measuring aliasing needs others: make the network with a Preprocessing"):
        compare(both[0], both[1], photos)


def test_a_random_transform_is_refused():
    with pytest.raises(UsageError, match="pass the one for evaluation"):
        network(tv.Compose([tv.RandomResizedCrop(32), tv.ToTensor()]))


@pytest.mark.parametrize(
    ("preprocessing", "fits"),
    [
        (torchvision_preprocessing(40, 32), True),
        (torchvision_preprocessing(32, 32), True),  # all of the square: its border is blurred
        (USUAL, True),
        (replace(torchvision_preprocessing(32, 32), crop_mode="squash"), False),
        (tv.Compose([tv.Resize((32, 32)), tv.ToTensor()]), False),
    ],
)
def test_a_packed_set_is_refused_by_networks_that_see_beside_its_squares(preprocessing, fits, photos, tmp_path):
    pack(find_splits(photos), tmp_path / "packed", workers=1)
    net = network(preprocessing)
    if fits:
        assert mine(net, find_images(tmp_path / "packed"), layers=["1"]).read_count == 9
    else:
        for work in (lambda: mine(net, tmp_path / "packed", layers=["1"]), lambda: evaluate([net], tmp_path / "packed", 1)):
            with pytest.raises(DeconvnetError, match="is shown more of a photo than its central square"):
                work()
