"""What AlexNet and ZFNet have in common: everything after conv2, from which Table 3 removes layers."""

from typing import Any

from torch import Tensor, nn

from deconvnet.errors import UsageError

_REMOVABLE = (3, 4, 6, 7)


def check_removed(layers: tuple[int, ...]) -> None:
    """Raise `UsageError` for layers that cannot be removed: they do not exist, or the sizes of the others would not fit."""
    invalid = [layer for layer in layers if layer not in _REMOVABLE]
    if invalid:
        raise UsageError(f"Layers 3, 4, 6 and 7 can be removed, not {invalid[0]!r}.")


class AlexNetFamily(nn.Module):
    """Five convolutional layers and three fully connected ones, each as conv1 … fc8.

    A subclass makes conv1, conv2, relu, norm, pool and dropout, and computes what is before conv3. Its options are a
    dataclass with at least `classes` and `removed`.
    """

    options: Any
    conv3: nn.Conv2d
    conv4: nn.Conv2d
    conv5: nn.Conv2d
    fc6: nn.Linear
    fc7: nn.Linear
    relu: nn.ReLU
    dropout: nn.Dropout

    def _add_conv3_to_conv5(self, maps: tuple[int, int, int], groups: tuple[int, int, int] = (1, 1, 1)) -> None:
        in_maps = 256
        for number, out_maps, group_count in zip((3, 4, 5), maps, groups, strict=True):
            if number not in self.options.removed:
                self.add_module(f"conv{number}", nn.Conv2d(in_maps, out_maps, 3, padding=1, groups=group_count))
                in_maps = out_maps

    def _add_fc6_to_fc8(self, fc6_units: int, fc7_units: int) -> None:
        """Nothing for a trunk."""
        if not self.options.classes:
            return
        inputs = self.conv5.out_channels * 6 * 6
        for number, units in ((6, fc6_units), (7, fc7_units)):
            if number not in self.options.removed:
                self.add_module(f"fc{number}", nn.Linear(inputs, units))
                inputs = units
        self.fc8 = nn.Linear(inputs, self.options.classes)

    def _forward_from_conv3(self, x: Tensor, pool5: nn.MaxPool2d) -> Tensor:
        """Input of conv3 → logits (N, classes), or pool5's output for a trunk."""
        removed = self.options.removed
        if 3 not in removed:
            x = self.relu(self.conv3(x))
        if 4 not in removed:
            x = self.relu(self.conv4(x))
        x = pool5(self.relu(self.conv5(x)))
        if not self.options.classes:
            return x
        x = x.flatten(1)
        if 6 not in removed:
            x = self.dropout(self.relu(self.fc6(x)))
        if 7 not in removed:
            x = self.dropout(self.relu(self.fc7(x)))
        return self.fc8(x)

    @property
    def layer_names(self) -> list[str]:
        """The paper's names of the layers, in the order in which they run; fc8 has no ReLU and so is no layer."""
        return [name for name, _ in self.named_children() if name.startswith(("conv", "fc")) and name != "fc8"]
