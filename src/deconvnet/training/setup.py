"""The network as training starts from it."""

import numpy as np
import torch

from deconvnet.data import Preprocessing, named_classes
from deconvnet.data.transforms import SQUARE, central_crop
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.models import ARCHITECTURES, AlexNet2012, Network, ZFNet
from deconvnet.models.init import initialise_he
from deconvnet.models.registry import untrained
from deconvnet.training.recipe import Recipe
from deconvnet.training.rng import initial_seed

#: Names of the networks that can be trained: those that the paper trained.
TRAINABLE = tuple(name for name, known in ARCHITECTURES.items() if known.build in (AlexNet2012, ZFNet))


def check_trainable(name: str) -> None:
    """Raise `UsageError` for a network that is not trained here."""
    if name not in TRAINABLE:
        raise UsageError(f"{name!r} is no network that can be trained from scratch: there are {', '.join(TRAINABLE)}.")


def untrained_network(name: str, classes: int, recipe: Recipe, named: str, seed: int) -> Network:
    """A network for so many classes with first weights drawn from `seed`, on the CPU. `named` is what the recipe is called.

    Raises `UsageError` for a network that is not trained here, and for options in the recipe that it does not have.
    """
    check_trainable(name)
    if "classes" in recipe.network:
        raise UsageError(f"{named} says how many classes there are, which the photos say: leave it out of [network].")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(initial_seed(seed))
        try:
            net = untrained(name, {**recipe.network, "classes": classes})
        except DeconvnetError as error:
            raise UsageError(f"{named} has a [network] table that cannot be used. {error}") from None
        if recipe.initial == "he":
            initialise_he(net.module)
    for part in net.module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = recipe.dropout
    return net


def prepared(net: Network, classes: tuple[str, ...], mean: np.ndarray, recipe: Recipe) -> Network:
    """The same module with its preprocessing and its classes, which are called like `classes` (class folders).

    `mean` is the photos' mean image, (256, 256, 3) float32, 0 to 255, of which the network takes the centre.
    """
    crop = net.preprocessing.crop
    centre = torch.from_numpy(central_crop(mean[None], crop)[0].copy()).permute(2, 0, 1)
    preprocessing = Preprocessing(SQUARE, crop, 255.0, centre, torch.full((3, 1, 1), recipe.deviation))
    return Network(net.module, preprocessing, name=net.name, layer_names=list(net.layers), classes=named_classes(classes))
