"""The name under which version 0.1 had `deconvnet.models`; it goes in the next one."""

import warnings

from deconvnet.data import Preprocessing, per_channel, torchvision_preprocessing  # noqa: F401
from deconvnet.local_response_norm import LRNConstants as ContrastConstants  # noqa: F401
from deconvnet.models import *  # noqa: F403

warnings.warn("deconvnet.networks is now called deconvnet.models: import from there.", DeprecationWarning, stacklevel=2)
