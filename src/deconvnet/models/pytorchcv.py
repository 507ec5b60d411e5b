"""The ZFNets of the package pytorchcv: what its module tree calls the tensors that we call conv1.weight … fc8.bias.

The tree computes what `ZFNet` with `order = "norm-pool"` computes.
"""

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


def our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under our names; those that pytorchcv does not know keep theirs."""
    renamed = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        renamed[f"{_LAYERS[layer]}.{kind}" if layer in _LAYERS else name] = tensor
    return renamed
