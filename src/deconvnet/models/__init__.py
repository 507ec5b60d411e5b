"""The convnets: AlexNet, ZFNet, where published weights come from, and what makes a module ready to be looked at."""

from deconvnet.local_response_norm import LRNConstants
from deconvnet.models.alexnet import AlexNet2012, AlexNetOptions
from deconvnet.models.cpu_parallel import parallel_map
from deconvnet.models.network import Network
from deconvnet.models.preprocessing import Preprocessing, per_channel, torchvision_preprocessing
from deconvnet.models.registry import ARCHITECTURES, describe_network, load
from deconvnet.models.weights import save_weights
from deconvnet.models.zfnet import ZFNet, ZFNetOptions

__all__ = [
    "ARCHITECTURES",
    "AlexNet2012",
    "AlexNetOptions",
    "LRNConstants",
    "Network",
    "Preprocessing",
    "ZFNet",
    "ZFNetOptions",
    "describe_network",
    "load",
    "parallel_map",
    "per_channel",
    "save_weights",
    "torchvision_preprocessing",
]
