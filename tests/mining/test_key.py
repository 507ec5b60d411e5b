"""A key does not depend on names in Python: keys in files of earlier versions must match."""

from contextlib import contextmanager

import pytest
import torch

from deconvnet.data import find_images
from deconvnet.data import torchvision_preprocessing as preprocessing
from deconvnet.local_response_norm import LRNConstants
from deconvnet.mining import MiningKey
from deconvnet.models import AlexNet2012, AlexNetOptions, Network, ZFNet, ZFNetOptions
from helpers import thin_networks
from helpers.thin_networks import thin

CONTRAST = LRNConstants(n=3, alpha=5e-4, beta=0.5, k=1.0)

#: Of version 0.1.0.
DIGESTS = {
    AlexNet2012: "d2fbc526158fe9b27abf3588dd3b33d35fd6123bea4d0004a8930d5f34a52a58",
    ZFNet: "adea2180a83debd41e3aeffc65cf0d48dc64b9c8fe87ab14941dac4d6a6b3107",
}


def networks(monkeypatch):
    """Our networks with few maps and integer weights."""
    monkeypatch.setattr(thin_networks, "MAPS", 4)
    options = {AlexNet2012: AlexNetOptions(hidden=8, contrast=CONTRAST), ZFNet: ZFNetOptions(hidden=8, contrast=CONTRAST)}
    for kind, chosen in options.items():
        module, numbers = kind(chosen).eval(), torch.Generator().manual_seed(0)
        thin(module)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(torch.randint(-4, 5, parameter.shape, generator=numbers))
        crop = 227 if kind is AlexNet2012 else 224
        yield kind, Network(module, preprocessing(crop=crop), layer_names=module.layer_names)


def test_keys_are_those_of_version_0_1(photo_folder, monkeypatch):
    image_set = find_images(photo_folder)
    digests = {
        kind: MiningKey.compute(network, image_set, ["conv1"], 9).network_digest for kind, network in networks(monkeypatch)
    }
    assert digests == DIGESTS


def test_a_key_does_not_depend_on_names_of_classes(photo_folder, monkeypatch):
    image_set = find_images(photo_folder)
    for kind, network in networks(monkeypatch):
        with renamed(kind, type(network.module.norm), LRNConstants):
            assert repr(CONTRAST).startswith("Renamed(")
            assert "Renamed" not in str(network.module)
            assert MiningKey.compute(network, image_set, ["conv1"], 9).network_digest == DIGESTS[kind]


@contextmanager
def renamed(*classes):
    before = [(kind, kind.__name__, kind.__qualname__) for kind in classes]
    try:
        for kind in classes:
            kind.__name__ = kind.__qualname__ = "Renamed"
        yield
    finally:
        for kind, name, qualified in before:
            kind.__name__, kind.__qualname__ = name, qualified


def test_a_subclass_is_printed_under_its_name():
    class Mine(ZFNet):
        pass

    assert str(Mine(ZFNetOptions(hidden=8))).startswith("Mine(\n")


def test_a_key_is_read_as_it_was_written(small_network, photo_folder):
    key = MiningKey.compute(small_network, find_images(photo_folder), ["conv1", "conv2"], 9)
    written = key.as_json()
    assert MiningKey.from_json(written) == key
    assert MiningKey.from_json(written).probe_maxima == key.probe_maxima
    names = ["network", "preprocessing", "photos", "photo_count", "class_count", "layers", "top", "answers", "fast"]
    assert list(written) == names
    with pytest.raises(ValueError, match="a key with colour"):
        MiningKey.from_json(written | {"colour": 1})
    with pytest.raises(KeyError):
        MiningKey.from_json({name: value for name, value in written.items() if name != "top"})
