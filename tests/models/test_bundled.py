"""The trained networks that come along: what they are, and that their errors are those that lie beside them."""

import json

import pytest
import torch
from safetensors import safe_open

from deconvnet.data import find_images, imagenet_classes
from deconvnet.data.image_set import ImageSet
from deconvnet.experiments.table2_errors import evaluate
from deconvnet.models import AlexNetOptions, ZFNetOptions, describe_network, load
from deconvnet.models.bundled import BUNDLED, bundled_weights
from deconvnet.training import Recipe, read_recipe

OPTIONS = {"alexnet2012": AlexNetOptions(classes=10, hidden=192), "zfnet": ZFNetOptions(classes=10, hidden=192)}


def errors(name):
    return json.loads(bundled_weights(name, "imagenette").with_name("errors.json").read_text())


@pytest.mark.parametrize("name", OPTIONS)
def test_they_are_small_and_full_in_all_but_the_fully_connected_layers(name):
    file = bundled_weights(name, "imagenette")
    assert file.stat().st_size <= 12_000_000
    with safe_open(file, "pt") as opened:
        kinds = {key: opened.get_tensor(key).dtype for key in opened.keys()}  # noqa: SIM118
    assert kinds.pop("preprocessing.mean") == torch.float32
    assert set(kinds.values()) == {torch.float16}
    assert load(name).module.options == OPTIONS[name]


@pytest.mark.parametrize("name", OPTIONS)
def test_they_are_what_a_network_has_where_nothing_else_is_asked_for(name):
    network = load(name)
    assert network.digest == load(name, "imagenette").digest == load(f"{name}:imagenette").digest
    assert describe_network(name)["weights"][0] == BUNDLED[name] == "imagenette"
    assert (
        network.full_name == f"{name} (Imagenette, {errors(name)['recipe']['epochs']} epochs, seed {errors(name)['seed']})"
    )
    assert len(network.classes) == 10
    assert set(network.classes) <= set(imagenet_classes())
    assert network.preprocessing.mean.shape == (3, network.preprocessing.crop, network.preprocessing.crop)


def test_there_are_no_others():
    assert bundled_weights("zfnet512", "imagenette") is bundled_weights("zfnet", "imagenet") is None


@pytest.mark.parametrize("name", OPTIONS)
def test_both_were_trained_by_the_recipe_that_lies_beside_them(name):
    recipe = read_recipe(bundled_weights(name, "imagenette").parents[1] / "recipe.toml")
    assert Recipe.from_entries(errors(name)["recipe"]) == recipe


@pytest.mark.parametrize("name", OPTIONS)
def test_the_errors_beside_them_are_of_these_weights(name):
    for found in errors(name)["errors"].values():
        (network,) = found["networks"]
        assert network["sha256"] == load(name).digest
        assert found["data"]["photos"] == 3925


@pytest.mark.data
def test_the_errors_beside_them_are_found_again(data):
    whole = find_images(data / "imagenette" / "val")
    some = ImageSet(whole.root, whole.paths[::8])
    found = evaluate([load(name) for name in OPTIONS], some, views=1)
    for name, judged in zip(OPTIONS, found.networks, strict=True):
        stated = errors(name)["errors"]["1 view"]["networks"][0]["top1"]["error"]
        low, high = judged.top1.interval
        assert low - 0.01 <= stated <= high + 0.01
