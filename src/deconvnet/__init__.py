"""See what every feature map of a convolutional network responds to.

An implementation of Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks" (ECCV 2014), on PyTorch.
"""

from importlib.metadata import version

from deconvnet.atlas import Atlas
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.mining import mine
from deconvnet.networks import Network, Preprocessing, load, per_channel, torchvision_preprocessing
from deconvnet.projection import picture, project

__version__ = version("deconvnet")

__all__ = [
    "Atlas",
    "DeconvnetError",
    "Network",
    "Preprocessing",
    "UsageError",
    "load",
    "mine",
    "per_channel",
    "picture",
    "project",
    "torchvision_preprocessing",
]
