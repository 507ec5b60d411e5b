"""From files to tensors: decoding, folders of photos, and batches of them."""

from deconvnet.images.batches import Batch, batches
from deconvnet.images.decode import UnreadableImage, read_image
from deconvnet.images.photos import Photos, find_photos

__all__ = ["Batch", "Photos", "UnreadableImage", "batches", "find_photos", "read_image"]
