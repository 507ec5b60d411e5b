"""AlexNet and ZFNet, weights from files and from others, and `Network`, a module with its preprocessing and layers."""

from deconvnet.models.alexnet import AlexNet2012, AlexNetOptions
from deconvnet.models.cpu_parallel import parallel_map
from deconvnet.models.input_reader import InputReader, to_inputs, to_pictures
from deconvnet.models.loading import check_runs_no_code, describe_network, load
from deconvnet.models.network import Network
from deconvnet.models.patched_forward import activation_cache, forward_patched
from deconvnet.models.registry import ARCHITECTURES, build_module, build_untrained
from deconvnet.models.weights import save_weights
from deconvnet.models.zfnet import ZFNet, ZFNetOptions

__all__ = [
    "ARCHITECTURES",
    "AlexNet2012",
    "AlexNetOptions",
    "InputReader",
    "Network",
    "ZFNet",
    "ZFNetOptions",
    "activation_cache",
    "build_module",
    "build_untrained",
    "check_runs_no_code",
    "describe_network",
    "forward_patched",
    "load",
    "parallel_map",
    "save_weights",
    "to_inputs",
    "to_pictures",
]
