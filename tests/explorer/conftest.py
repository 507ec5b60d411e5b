"""A small network and its atlas, served in this process or by a real server in a thread."""

import pytest

from deconvnet import Atlas
from deconvnet.explorer.app_state import Explorer
from deconvnet.explorer.served_networks import find_models
from deconvnet.models import Network
from helpers.exploring import CLASSES, Client, RunningServer, image_bytes, upload_image


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
    explorer = Explorer(find_models([folder], [network]))
    yield explorer
    explorer.close()


@pytest.fixture
def client(explorer):
    client = Client(explorer)
    yield client
    client.close()


@pytest.fixture
def image_path(client):
    """The path of an uploaded image's addresses, for the one network."""
    return f"/api/photos/{upload_image(client, image_bytes()).json()['photo']}/little-atlas"


@pytest.fixture
def running_server(explorer):
    server = RunningServer(explorer)
    yield server
    server.stop()
