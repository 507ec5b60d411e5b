"""AlexNet as trained for ImageNet 2012 (Krizhevsky et al. 2012): two groups, local response normalisation, 227-pixel input.

Not torchvision's `alexnet`, the later "one weird trick" network, which has neither groups nor normalisation.
"""

from dataclasses import dataclass, field

from torch import Tensor, nn

from deconvnet.formatting import repr_name
from deconvnet.local_response_norm import LocalResponseNorm, LRNConstants
from deconvnet.models.alexnet_family import AlexNetFamily, check_removed
from deconvnet.models.init import init_normal


@dataclass(frozen=True)
class AlexNetOptions:
    """What differs between published versions. The defaults are Krizhevsky's."""

    classes: int = 1000
    """Size of the last layer; 0 leaves out the fully connected layers: a trunk, without class scores."""
    hidden: int = 4096
    """Units in fc6 and fc7."""
    contrast: LRNConstants = field(default_factory=LRNConstants)
    """Constants of local response normalisation."""
    removed: tuple[int, ...] = ()
    """Layers that are left out, of 3, 4, 6 and 7 (Table 3 of Zeiler & Fergus); the others keep their numbers."""

    def __post_init__(self) -> None:
        check_removed(self.removed)


@repr_name("AlexNet2012")
class AlexNet2012(AlexNetFamily):
    """AlexNet (Krizhevsky et al. 2012), with its two groups in one module.

    Maps for an input (N, 3, 227, 227): 55 → pool 27 → pool 13, 13, 13 → pool 6. Returns logits (N, classes), or for a trunk
    the output of pool5.
    """

    def __init__(self, options: AlexNetOptions | None = None) -> None:
        super().__init__()
        self.options: AlexNetOptions = options or AlexNetOptions()
        self.conv1 = nn.Conv2d(3, 96, 11, stride=4)
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=2)
        self._add_conv3_to_conv5((384, 384, 256), groups=(1, 2, 2))
        self.relu = nn.ReLU()
        self.norm = LocalResponseNorm(self.options.contrast)
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.dropout = nn.Dropout(0.5)
        self._add_fc6_to_fc8(self.options.hidden, self.options.hidden)
        init_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.norm(self.relu(self.conv1(x))))
        x = self.pool(self.norm(self.relu(self.conv2(x))))
        return self._forward_from_conv3(x, self.pool)
