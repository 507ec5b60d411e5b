"""Tensor names of the package pytorchcv's ZFNets, which compute the same as our `ZFNet` with `order = "norm-pool"`."""

from collections.abc import Mapping

from torch import Tensor

_LAYERS = {
    "features.stage1.unit1.conv": "conv1",
    "features.stage2.unit1.conv": "conv2",
    "features.stage3.unit1.conv": "conv3",
    "features.stage3.unit2.conv": "conv4",
    "features.stage3.unit3.conv": "conv5",
    "output.fc1.fc": "fc6",
    "output.fc2.fc": "fc7",
    "output.fc3": "fc8",
}


def rename_pytorchcv_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with pytorchcv's tensor names replaced by ours, conv1.weight … fc8.bias; other tensors keep their names."""
    renamed = {}
    for name, tensor in state.items():
        layer, _, parameter = name.rpartition(".")
        renamed[f"{_LAYERS[layer]}.{parameter}" if layer in _LAYERS else name] = tensor
    return renamed
