"""From files to tensors: decoding, folders of photos, packed sets, and batches of them."""

from deconvnet.data.classes import imagenet_classes, named_classes
from deconvnet.data.decode import UnreadableImage, read_image
from deconvnet.data.image_set import ImageSet
from deconvnet.data.loader import (
    Batch,
    batches,
    read_batch,
    split_batches,
)
from deconvnet.data.pack import pack
from deconvnet.data.packed import PackedImageSet
from deconvnet.data.sources.folders import find_images
from deconvnet.data.sources.layouts import find_sets

__all__ = [
    "Batch",
    "ImageSet",
    "PackedImageSet",
    "UnreadableImage",
    "batches",
    "find_images",
    "find_sets",
    "imagenet_classes",
    "named_classes",
    "pack",
    "read_batch",
    "read_image",
    "split_batches",
]
