"""Photos that an experiment cannot do without."""

from PIL import Image
from torch import Tensor

from deconvnet.data import ImageSet, UnreadableImage
from deconvnet.errors import DeconvnetError
from deconvnet.models import Network


def read_photo(image_set: ImageSet, index: int) -> Image.Image:
    """Photo number `index`, RGB. Raises `DeconvnetError`, which names its file, if it cannot be read."""
    try:
        return image_set.read(index)
    except UnreadableImage as error:
        raise DeconvnetError(f"{image_set.file(index)} {error}.") from None


def read_input(network: Network, image_set: ImageSet, index: int) -> Tensor:
    """Photo number `index` as the network's input (3, crop, crop). Raises as `read_photo`."""
    return network.preprocess(read_photo(image_set, index))
