"""The convnets: AlexNet, ZFNet, where published weights come from, and what makes a module ready to be looked at."""

from deconvnet.models.alexnet import AlexNet2012, AlexNetOptions
from deconvnet.models.cpu_parallel import parallel_map
from deconvnet.models.network import Network
from deconvnet.models.registry import ARCHITECTURES, describe_network, load
from deconvnet.models.weights import save_weights
from deconvnet.models.zfnet import ZFNet, ZFNetOptions

__all__ = [
    "ARCHITECTURES",
    "AlexNet2012",
    "AlexNetOptions",
    "Network",
    "ZFNet",
    "ZFNetOptions",
    "describe_network",
    "load",
    "parallel_map",
    "save_weights",
]
