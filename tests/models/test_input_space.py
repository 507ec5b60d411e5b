"""What a network's inputs are, and how they are shown."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deconvnet import Network, UsageError, torchvision_preprocessing

MODULE = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU())


def test_a_network_by_the_shape_of_its_input_has_layers_of_maps_of_that_shape():
    network = Network(MODULE, input_shape=(2, 9, 14))
    assert network.input_shape == (2, 9, 14)
    assert network.layers["1"].map_size == (7, 12)
    assert (network.layers["1"].field.height, network.layers["1"].field.width) == (9, 14)
    assert network.filters.shape == (3, 2, 3, 3)
    assert network.activations(torch.randn(2, 2, 9, 14), "1").shape == (2, 3, 7, 12)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "input_shape=\\(channels, height, width\\)"),
        ({"preprocessing": "imagenet"}, "not 'imagenet'"),
        ({"input_shape": (28, 40)}, r"such as \(1, 28, 40\), not \(28, 40\)"),
        ({"input_shape": 28}, "not 28"),
        ({"input_shape": (1, 0, 40)}, r"not \(1, 0, 40\)"),
        ({"input_shape": (1, 28.0, 40)}, r"not \(1, 28.0, 40\)"),
        ({"preprocessing": torchvision_preprocessing(9, 9), "input_shape": (1, 9, 9)}, r"\(3, 9, 9\), but input_shape is"),
        ({"input_shape": (2, 9, 14), "to_image": "grey"}, "to_image is a function"),
    ],
)
def test_what_is_no_input_is_refused(arguments, sentence):
    with pytest.raises(UsageError, match=sentence):
        Network(MODULE, **arguments)


def test_without_a_preprocessing_photos_are_refused_in_one_sentence():
    network = Network(MODULE, input_shape=(2, 9, 14), name="mine")
    for use in (lambda: network.preprocessing, lambda: network.preprocess(Image.new("RGB", (9, 14)))):
        with pytest.raises(UsageError, match=r"^mine has no preprocessing, so it cannot be shown photos: pass a torch\.ut"):
            use()


def test_each_channel_is_shown_by_itself_and_a_caption_says_so():
    network = Network(MODULE, input_shape=(2, 9, 14), name="mine")
    shown = network.show(torch.randn(4, 2, 9, 14))
    assert shown.shape == (4, 9, 14, 2)
    assert (shown.min(axis=(1, 2)) == 0).all()
    assert (shown.max(axis=(1, 2)) == 255).all()
    assert (
        network.input_space.caption(network.full_name)
        == "mine · inputs: each channel from its lowest value (black) to its highest"
    )


@pytest.mark.parametrize(
    "to_image",
    [
        lambda x: (x[0] > 0).byte() * 255,
        lambda x: np.stack([(x[0].numpy() > 0).astype(np.uint8) * 255] * 3, axis=2),
        lambda x: Image.fromarray((x[0].numpy() > 0).astype(np.uint8) * 255),
    ],
    ids=["tensor", "array", "picture"],
)
def test_to_image_says_what_is_shown(to_image):
    network = Network(MODULE, input_shape=(2, 9, 14), name="mine", to_image=to_image)
    x = torch.randn(4, 2, 9, 14)
    shown = network.show(x)
    assert shown.shape == (4, 9, 14, 3)
    assert (shown == ((x[:, 0] > 0).byte() * 255).unsqueeze(3).numpy()).all()
    assert network.input_space.caption(network.full_name) == "mine"


@pytest.mark.parametrize(
    "to_image",
    [lambda x: x[0], lambda x: x.byte(), lambda x: np.zeros((14, 9), np.uint8), lambda x: Image.new("L", (9, 14))],
)
def test_to_image_gives_pictures_of_the_inputs_size(to_image):
    network = Network(MODULE, input_shape=(2, 9, 14), to_image=to_image)
    with pytest.raises(
        UsageError, match=r"an input of shape \(2, 9, 14\): it gives uint8 of shape \(9, 14\) or \(9, 14, 3\)"
    ):
        network.show(torch.randn(1, 2, 9, 14))


def test_to_image_goes_before_the_preprocessing():
    preprocessing = torchvision_preprocessing(8, 8)
    module = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU())
    x = preprocessing(Image.new("RGB", (8, 8), (10, 200, 30)))[None]
    assert (Network(module, preprocessing).show(x) == (10, 200, 30)).all()
    white = Network(module, preprocessing, to_image=lambda x: torch.full((8, 8), 255, dtype=torch.uint8))
    assert (white.show(x) == 255).all()
