"""The convnets: AlexNet, ZFNet, where published weights come from, and what makes a module ready to be looked at."""

from deconvnet.contrast_norm import ContrastConstants
from deconvnet.networks.alexnet import AlexNet2012, AlexNetOptions
from deconvnet.networks.catalogue import ARCHITECTURES, describe_network, load
from deconvnet.networks.each_core import on_each_core
from deconvnet.networks.network import Network
from deconvnet.networks.preprocessing import Preprocessing, per_channel, torchvision_preprocessing
from deconvnet.networks.weights import save_weights
from deconvnet.networks.zfnet import ZFNet, ZFNetOptions

__all__ = [
    "ARCHITECTURES",
    "AlexNet2012",
    "AlexNetOptions",
    "ContrastConstants",
    "Network",
    "Preprocessing",
    "ZFNet",
    "ZFNetOptions",
    "describe_network",
    "load",
    "on_each_core",
    "per_channel",
    "save_weights",
    "torchvision_preprocessing",
]
