"""From files to tensors: decoding, image sets, packed sets, preprocessing and batches."""

from deconvnet.data.as_preprocessing import as_preprocessing
from deconvnet.data.decode import UnreadableImage, read_image
from deconvnet.data.find_inputs import Inputs, find_inputs, find_items
from deconvnet.data.image_set import ImageSet, classes_from_folders, imagenet_classes
from deconvnet.data.input_dataset import InputDataset, InputStream
from deconvnet.data.input_set import InputSet
from deconvnet.data.loader import Batch, batches, read_batch, split_batches, upload
from deconvnet.data.packed import PackedImageSet
from deconvnet.data.packing import pack
from deconvnet.data.sources.folders import find_images
from deconvnet.data.sources.splits import find_splits
from deconvnet.data.transform_preprocessing import TransformPreprocessing, transform_preprocessing
from deconvnet.data.transforms import Preprocessing, per_channel, torchvision_preprocessing

__all__ = [
    "Batch",
    "ImageSet",
    "InputDataset",
    "InputSet",
    "InputStream",
    "Inputs",
    "PackedImageSet",
    "Preprocessing",
    "TransformPreprocessing",
    "UnreadableImage",
    "as_preprocessing",
    "batches",
    "classes_from_folders",
    "find_images",
    "find_inputs",
    "find_items",
    "find_splits",
    "imagenet_classes",
    "pack",
    "per_channel",
    "read_batch",
    "read_image",
    "split_batches",
    "torchvision_preprocessing",
    "transform_preprocessing",
    "upload",
]
