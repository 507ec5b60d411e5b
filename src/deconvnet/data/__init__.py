"""From files to tensors: decoding, folders of photos, packed sets, and batches of them."""

from deconvnet.data.decode import UnreadableImage, read_image
from deconvnet.data.image_set import ImageSet, imagenet_classes, named_classes
from deconvnet.data.loader import (
    Batch,
    batches,
    read_batch,
    split_batches,
)
from deconvnet.data.packed import PackedImageSet
from deconvnet.data.packing import pack
from deconvnet.data.sources.folders import find_images
from deconvnet.data.sources.layouts import find_sets
from deconvnet.data.transforms import Preprocessing, per_channel, torchvision_preprocessing

__all__ = [
    "Batch",
    "ImageSet",
    "PackedImageSet",
    "Preprocessing",
    "UnreadableImage",
    "batches",
    "find_images",
    "find_sets",
    "imagenet_classes",
    "named_classes",
    "pack",
    "per_channel",
    "read_batch",
    "read_image",
    "split_batches",
    "torchvision_preprocessing",
]
