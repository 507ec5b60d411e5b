"""The name under which version 0.1 had `deconvnet.data`; it goes in the next one."""

import warnings

from deconvnet.data import *  # noqa: F403
from deconvnet.data import ImageSet as Photos  # noqa: F401
from deconvnet.data import find_images as find_photos  # noqa: F401

warnings.warn("deconvnet.images is now called deconvnet.data: import from there.", DeprecationWarning, stacklevel=2)
