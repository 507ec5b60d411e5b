"""Photos that an experiment cannot do without."""

from PIL import Image
from torch import Tensor

from deconvnet.errors import DeconvnetError
from deconvnet.images import Photos, UnreadableImage
from deconvnet.networks import Network


def read_photo(photos: Photos, index: int) -> Image.Image:
    """Photo number `index`, RGB. Raises `DeconvnetError`, which names its file, if it cannot be read."""
    try:
        return photos.read(index)
    except UnreadableImage as error:
        raise DeconvnetError(f"{photos.file(index)} {error}.") from None


def read_input(network: Network, photos: Photos, index: int) -> Tensor:
    """Photo number `index` as the network's input (3, crop, crop). Raises as `read_photo`."""
    return network.preprocess(read_photo(photos, index))
