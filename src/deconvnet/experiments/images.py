"""Read the images that an experiment needs, or sample some of them at random."""

from collections.abc import Container

import numpy as np
from PIL import Image
from torch import Tensor

from deconvnet.data import ImageSet, InputSet, UnreadableImage
from deconvnet.errors import DeconvnetError
from deconvnet.models import InputReader, Network


def read_required_image(image_set: ImageSet, index: int) -> Image.Image:
    """Image number `index`, RGB. Raises `DeconvnetError`, which names its file, if it cannot be read."""
    try:
        return image_set.read(index)
    except UnreadableImage as error:
        raise DeconvnetError(f"{image_set.file(index)} {error}.") from None


def read_input(network: Network, image_set: InputSet, index: int) -> Tensor:
    """Number `index` of a set as the network's input (C, H, W), on the CPU.

    Raises `DeconvnetError`, which names it, if it cannot be read, and `UsageError` for a photo if the network has no
    preprocessing.
    """
    if isinstance(image_set, ImageSet):
        return network.preprocess(read_required_image(image_set, index))
    reader = InputReader(network, image_set, 1)
    return reader.read(next(iter(reader.items([[index]])))).inputs[0]


def sample_indices(
    image_set: InputSet, skipped: Container[int], max_count: int, generator: np.random.Generator
) -> list[int]:
    """`max_count` random indices of the image set (all, if there are fewer), ascending, none of which is in `skipped`."""
    readable = [index for index in range(len(image_set)) if index not in skipped]
    return sorted(generator.choice(readable, min(max_count, len(readable)), replace=False).tolist())
