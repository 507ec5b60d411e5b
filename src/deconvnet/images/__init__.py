"""The name under which version 0.1 had `deconvnet.data`; it goes in the next one."""

import warnings

from deconvnet.data import *  # noqa: F403
from deconvnet.data import ImageSet as Photos  # noqa: F401
from deconvnet.data import PackedImageSet as PackedPhotos  # noqa: F401
from deconvnet.data import classes_from_folders as named_classes  # noqa: F401
from deconvnet.data import find_images as find_photos  # noqa: F401
from deconvnet.data import find_splits as find_sets  # noqa: F401
from deconvnet.data import split_batches as grouped  # noqa: F401

warnings.warn("deconvnet.images is now called deconvnet.data: import from there.", DeprecationWarning, stacklevel=2)
