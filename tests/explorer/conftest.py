"""A small network and its atlas, served in this process or by a real server in a thread."""

import pytest

from deconvnet import Atlas
from deconvnet.explorer.app import Explorer
from deconvnet.explorer.models import find_served
from deconvnet.models import Network
from helpers.exploring import CLASSES, Client, Listening, picture_bytes, post_photo


@pytest.fixture
def network(small_network):
    return Network(
        small_network.module,
        small_network.preprocessing,
        name="small",
        weights="random",
        layer_names=["conv1", "conv2", "fc3"],
        classes=CLASSES,
    )


@pytest.fixture
def folder(network, photo_folder, tmp_path):
    """An atlas of the network."""
    return Atlas.build(network, photo_folder, tmp_path / "little atlas").folder


@pytest.fixture
def explorer(network, folder):
    explorer = Explorer(find_served([folder], [network]))
    yield explorer
    explorer.close()


@pytest.fixture
def client(explorer):
    client = Client(explorer)
    yield client
    client.close()


@pytest.fixture
def photo(client):
    """The address of a photo, for the one network."""
    return f"/api/photos/{post_photo(client, picture_bytes()).json()['photo']}/little-atlas"


@pytest.fixture
def listening(explorer):
    server = Listening(explorer)
    yield server
    server.stop()
