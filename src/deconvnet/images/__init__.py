"""From files to tensors: decoding, folders of photos, packed sets, and batches of them."""

from deconvnet.images.batches import Batch, batches, grouped, read_batch
from deconvnet.images.classes import imagenet_classes, named_classes
from deconvnet.images.decode import UnreadableImage, read_image
from deconvnet.images.find import find_photos
from deconvnet.images.layouts import find_sets
from deconvnet.images.pack import pack
from deconvnet.images.packed import PackedPhotos
from deconvnet.images.photos import Photos

__all__ = [
    "Batch",
    "PackedPhotos",
    "Photos",
    "UnreadableImage",
    "batches",
    "find_photos",
    "find_sets",
    "grouped",
    "imagenet_classes",
    "named_classes",
    "pack",
    "read_batch",
    "read_image",
]
