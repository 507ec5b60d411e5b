"""AlexNet as trained for ImageNet 2012 (Krizhevsky et al. 2012): two groups, contrast normalisation, 227-pixel input.

Not to be confused with torchvision's `alexnet`, the later "one weird trick" network without groups and normalisation.
"""

from dataclasses import dataclass, field

from torch import Tensor, nn

from deconvnet.errors import UsageError
from deconvnet.local_response_norm import LocalResponseNorm, LRNConstants
from deconvnet.models.init import initialise
from deconvnet.text import printed_as


@dataclass(frozen=True)
class AlexNetOptions:
    """What the literature does differently from net to net. The defaults are Krizhevsky's."""

    classes: int = 1000
    """Size of the last layer; 0 leaves out the fully connected layers: a trunk, good for looking."""
    hidden: int = 4096
    """Units in fc6 and fc7."""
    contrast: LRNConstants = field(default_factory=LRNConstants)
    removed: tuple[int, ...] = ()
    """Layers that are left out, of 3, 4, 6 and 7 (Table 3 of Zeiler & Fergus); the others keep their numbers."""

    def __post_init__(self) -> None:
        check_removed(self.removed)


def check_removed(layers: tuple[int, ...]) -> None:
    """Raise `UsageError` for layers that cannot be left out: the others' sizes would not fit, or there are none such."""
    unfit = [layer for layer in layers if layer not in (3, 4, 6, 7)]
    if unfit:
        raise UsageError(f"Layers 3, 4, 6 and 7 can be removed, not {unfit[0]!r}.")


@printed_as("AlexNet2012")
class AlexNet2012(nn.Module):
    """AlexNet (Krizhevsky et al. 2012), with its two groups in one module.

    Maps of (N, 3, 227, 227): 55 → pool 27 → pool 13, 13, 13 → pool 6; logits (N, classes), or pool5 for a trunk.
    """

    def __init__(self, options: AlexNetOptions | None = None) -> None:
        super().__init__()
        self.options = options = options or AlexNetOptions()
        removed = options.removed
        self.conv1 = nn.Conv2d(3, 96, 11, stride=4)
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=2)
        maps = 256  # of what the next layer takes
        if 3 not in removed:
            self.conv3, maps = nn.Conv2d(maps, 384, 3, padding=1), 384
        if 4 not in removed:
            self.conv4, maps = nn.Conv2d(maps, 384, 3, padding=1, groups=2), 384
        self.conv5 = nn.Conv2d(maps, 256, 3, padding=1, groups=2)
        self.relu = nn.ReLU()
        self.norm = LocalResponseNorm(options.contrast)
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.dropout = nn.Dropout(0.5)
        if options.classes:
            inputs = 256 * 6 * 6
            if 6 not in removed:
                self.fc6, inputs = nn.Linear(inputs, options.hidden), options.hidden
            if 7 not in removed:
                self.fc7, inputs = nn.Linear(inputs, options.hidden), options.hidden
            self.fc8 = nn.Linear(inputs, options.classes)
        initialise(self)

    @property
    def layer_names(self) -> list[str]:
        """The paper's names of its layers, in the order in which they run."""
        return [name for name, _ in self.named_children() if name.startswith(("conv", "fc")) and name != "fc8"]

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.norm(self.relu(self.conv1(x))))
        x = self.pool(self.norm(self.relu(self.conv2(x))))
        if 3 not in self.options.removed:
            x = self.relu(self.conv3(x))
        if 4 not in self.options.removed:
            x = self.relu(self.conv4(x))
        x = self.pool(self.relu(self.conv5(x)))
        if not self.options.classes:
            return x
        x = x.flatten(1)
        if 6 not in self.options.removed:
            x = self.dropout(self.relu(self.fc6(x)))
        if 7 not in self.options.removed:
            x = self.dropout(self.relu(self.fc7(x)))
        return self.fc8(x)
