"""A small network and its atlas, served in this process or by a real server in a thread."""

import shutil
from pathlib import Path

import pytest

from deconvnet import Atlas
from deconvnet.explorer.app_state import Explorer
from deconvnet.explorer.served_networks import find_models
from deconvnet.models import Network
from helpers.exploring import CLASSES, Client, RunningServer, image_bytes, upload_image
from helpers.small_network import make_small_network, write_photo_folder


def make_network():
    small = make_small_network()
    return Network(
        small.module,
        small.preprocessing,
        name="small",
        weights="random",
        layer_names=["conv1", "conv2", "fc3"],
        classes=CLASSES,
    )


@pytest.fixture
def network():
    return make_network()


@pytest.fixture(scope="session")
def atlas_folder(tmp_path_factory):
    """An atlas of the network, built once."""
    top = tmp_path_factory.mktemp("atlas")
    return Atlas.build(make_network(), write_photo_folder(top / "photos"), top / "atlas").folder


@pytest.fixture
def folder(atlas_folder, tmp_path):
    """An atlas of the network, which a test may change."""
    return Path(shutil.copytree(atlas_folder, tmp_path / "little atlas"))


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
