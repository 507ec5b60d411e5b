"""Read the images that an experiment needs, or sample some of them at random."""

from collections.abc import Container

import numpy as np
from PIL import Image
from torch import Tensor

from deconvnet.data import ImageSet, UnreadableImage
from deconvnet.errors import DeconvnetError
from deconvnet.models import Network


def read_required_image(image_set: ImageSet, index: int) -> Image.Image:
    """Image number `index`, RGB. Raises `DeconvnetError`, which names its file, if it cannot be read."""
    try:
        return image_set.read(index)
    except UnreadableImage as error:
        raise DeconvnetError(f"{image_set.file(index)} {error}.") from None


def read_input(network: Network, image_set: ImageSet, index: int) -> Tensor:
    """Image number `index` as the network's input (3, crop, crop). Raises as `read_required_image`."""
    return network.preprocess(read_required_image(image_set, index))


def sample_indices(
    image_set: ImageSet, skipped: Container[int], max_count: int, generator: np.random.Generator
) -> list[int]:
    """`max_count` random indices of the image set (all, if there are fewer), ascending, none of which is in `skipped`."""
    readable = [index for index in range(len(image_set)) if index not in skipped]
    return sorted(generator.choice(readable, min(max_count, len(readable)), replace=False).tolist())
