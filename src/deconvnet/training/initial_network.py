"""Build and initialise the network that a run trains."""

import numpy as np
import torch

from deconvnet.data import Preprocessing, classes_from_folders
from deconvnet.data.transforms import SQUARE_SIZE, central_crop
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.models import ARCHITECTURES, AlexNet2012, Network, ZFNet, build_untrained
from deconvnet.models.init import init_he
from deconvnet.training.recipe import Recipe
from deconvnet.training.stateless_rng import init_seed

#: Names of the networks that can be trained: AlexNet and ZFNet, which the paper trains, and their variants.
TRAINABLE = tuple(name for name, architecture in ARCHITECTURES.items() if architecture.build in (AlexNet2012, ZFNet))


def check_trainable(name: str) -> None:
    """Raise `UsageError` for a network that cannot be trained here."""
    if name not in TRAINABLE:
        raise UsageError(f"{name!r} is no network that can be trained from scratch: there are {', '.join(TRAINABLE)}.")


def untrained_network(name: str, class_count: int, recipe: Recipe, recipe_name: str, seed: int) -> Network:
    """A network with `class_count` outputs and initial weights drawn from `seed`, on the CPU.

    `recipe_name` is the recipe's name in errors. Raises `UsageError` for a network that cannot be trained here, and for
    options in the recipe that the network does not have.
    """
    check_trainable(name)
    if "classes" in recipe.network:
        raise UsageError(f"{recipe_name} says how many classes there are, which the photos say: leave it out of [network].")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(init_seed(seed))
        try:
            network = build_untrained(name, {**recipe.network, "classes": class_count})
        except DeconvnetError as error:
            raise UsageError(f"{recipe_name} has a [network] table that cannot be used. {error}") from None
        if recipe.init == "he":
            init_he(network.module)
    for submodule in network.module.modules():
        if isinstance(submodule, torch.nn.Dropout):
            submodule.p = recipe.dropout
    return network


def with_preprocessing(network: Network, classes: tuple[str, ...], mean: np.ndarray, recipe: Recipe) -> Network:
    """The same module with the preprocessing it is trained with, and the names of `classes` (class folders).

    `mean` is the training set's mean image, (256, 256, 3) float32, 0 to 255; its centre is subtracted from every crop.
    """
    crop = network.preprocessing.crop
    centre = torch.from_numpy(central_crop(mean[None], crop)[0].copy()).permute(2, 0, 1)
    preprocessing = Preprocessing(SQUARE_SIZE, crop, 255.0, centre, torch.full((3, 1, 1), recipe.input_std))
    layer_names, class_names = list(network.layers), classes_from_folders(classes)
    return Network(network.module, preprocessing, name=network.name, layer_names=layer_names, classes=class_names)
