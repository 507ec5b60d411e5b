"""AlexNet as trained for ImageNet 2012 (Krizhevsky et al. 2012): two groups, contrast normalisation, 227-pixel input.

Not to be confused with torchvision's `alexnet`, the later "one weird trick" network without groups and normalisation.
"""

from dataclasses import dataclass, field

from torch import Tensor, nn

from deconvnet.networks.contrast import ContrastConstants, ContrastNorm
from deconvnet.networks.initial import initialise


@dataclass(frozen=True)
class AlexNetOptions:
    """What the literature does differently from net to net. The defaults are Krizhevsky's."""

    classes: int = 1000
    """Size of the last layer; 0 leaves out the fully connected layers: a trunk, good for looking."""
    hidden: int = 4096
    """Units in fc6 and fc7."""
    contrast: ContrastConstants = field(default_factory=ContrastConstants)


class AlexNet2012(nn.Module):
    """Maps of (N, 3, 227, 227): 55 → pool 27 → pool 13, 13, 13 → pool 6; logits (N, classes), or pool5 for a trunk."""

    def __init__(self, options: AlexNetOptions | None = None) -> None:
        super().__init__()
        self.options = options = options or AlexNetOptions()
        self.conv1 = nn.Conv2d(3, 96, 11, stride=4)
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1, groups=2)
        self.relu = nn.ReLU()
        self.norm = ContrastNorm(options.contrast)
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.dropout = nn.Dropout(0.5)
        if options.classes:
            self.fc6 = nn.Linear(256 * 6 * 6, options.hidden)
            self.fc7 = nn.Linear(options.hidden, options.hidden)
            self.fc8 = nn.Linear(options.hidden, options.classes)
        initialise(self)

    @property
    def layer_names(self) -> list[str]:
        """The paper's names of its layers, in the order in which they run."""
        return ["conv1", "conv2", "conv3", "conv4", "conv5", *(["fc6", "fc7"] if self.options.classes else [])]

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.norm(self.relu(self.conv1(x))))
        x = self.pool(self.norm(self.relu(self.conv2(x))))
        x = self.relu(self.conv3(x))
        x = self.relu(self.conv4(x))
        x = self.pool(self.relu(self.conv5(x)))
        if not self.options.classes:
            return x
        x = x.flatten(1)
        x = self.dropout(self.relu(self.fc6(x)))
        x = self.dropout(self.relu(self.fc7(x)))
        return self.fc8(x)
