"""ZFNet: AlexNet changed as in sections 3 and 4.1 of Zeiler & Fergus (Fig. 3): no groups, 7×7 first filters at stride 2."""

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from deconvnet.errors import UsageError
from deconvnet.formatting import repr_name
from deconvnet.local_response_norm import LocalResponseNorm, LRNConstants
from deconvnet.models.alexnet_family import AlexNetFamily, check_removed
from deconvnet.models.init import init_normal


@dataclass(frozen=True)
class ZFNetOptions:
    """What the paper leaves open or varies (Table 3), and what published re-implementations do differently."""

    classes: int = 1000
    """Size of the last layer; 0 leaves out the fully connected layers: a trunk, without class scores."""
    hidden: int = 4096
    """Units in fc6 and fc7."""
    middle: tuple[int, int, int] = (384, 384, 256)
    """Maps of conv3, conv4 and conv5."""
    contrast: LRNConstants = field(default_factory=LRNConstants)
    """Constants of local response normalisation."""
    order: Literal["pool-norm", "norm-pool"] = "pool-norm"
    """Pooling before local response normalisation, as in the caption of Fig. 3, or after it, as in re-implementations."""
    padding: int = 1
    """Padding of conv1. With 0, maps are 109 → pool 54, 25 → pool 12, 12, 12, 12 → pool 6."""
    pool5: int = 3
    """Rows and columns of the last pooling's windows."""
    fc7: int = 0
    """Units in fc7; 0 means as many as in fc6."""
    removed: tuple[int, ...] = ()
    """Layers that are left out, of 3, 4, 6 and 7 (Table 3); the others keep their numbers."""

    def __post_init__(self) -> None:
        if self.order not in ("pool-norm", "norm-pool"):  # it may come from a file
            raise UsageError(f'The order of a ZFNet is "pool-norm" or "norm-pool", not {self.order!r}.')
        check_removed(self.removed)


@repr_name("ZFNet")
class ZFNet(AlexNetFamily):
    """The paper's network (section 4.1, Fig. 3).

    Maps for an input (N, 3, 224, 224): 110 → pool 55, 26 → pool 13, 13, 13, 13 → pool 6. Returns logits (N, classes), or for
    a trunk the output of pool5.

    The paper states no padding. Padding 1 in conv1, none in conv2 and ceil pooling give the sizes of Fig. 3 exactly.
    """

    def __init__(self, options: ZFNetOptions | None = None) -> None:
        super().__init__()
        self.options: ZFNetOptions = options or ZFNetOptions()
        self.conv1 = nn.Conv2d(3, 96, 7, stride=2, padding=self.options.padding)
        self.conv2 = nn.Conv2d(96, 256, 5, stride=2)
        self._add_conv3_to_conv5(self.options.middle)
        self.relu = nn.ReLU()
        self.norm = LocalResponseNorm(self.options.contrast)
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.pool5 = nn.MaxPool2d(self.options.pool5, stride=2, ceil_mode=True)
        self.dropout = nn.Dropout(0.5)
        self._add_fc6_to_fc8(self.options.hidden, self.options.fc7 or self.options.hidden)
        init_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self._pool_and_normalise(self.relu(self.conv1(x)))
        x = self._pool_and_normalise(self.relu(self.conv2(x)))
        return self._forward_from_conv3(x, self.pool5)

    def _pool_and_normalise(self, x: Tensor) -> Tensor:
        if self.options.order == "pool-norm":
            return self.norm(self.pool(x))
        return self.pool(self.norm(x))
