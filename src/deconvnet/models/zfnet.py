"""ZFNet: AlexNet changed as sections 3 and 4.1 of Zeiler & Fergus say (Fig. 3), dense, with 7×7 stride-2 first filters."""

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from deconvnet.errors import UsageError
from deconvnet.local_response_norm import LocalResponseNorm, LRNConstants
from deconvnet.models.alexnet import check_removed
from deconvnet.models.init import initialise
from deconvnet.text import printed_as


@dataclass(frozen=True)
class ZFNetOptions:
    """What the paper leaves open or varies (Table 3), and what published re-implementations do differently."""

    classes: int = 1000
    """Size of the last layer; 0 leaves out the fully connected layers: a trunk, good for looking."""
    hidden: int = 4096
    """Units in fc6 and fc7."""
    middle: tuple[int, int, int] = (384, 384, 256)
    """Maps of conv3, conv4 and conv5."""
    contrast: LRNConstants = field(default_factory=LRNConstants)
    order: Literal["pool-norm", "norm-pool"] = "pool-norm"
    """Pooling before contrast normalisation, as Fig. 3's caption says, or after it, as published re-implementations do."""
    padding: int = 1
    """Of conv1. With 0, maps are 109 → pool 54, 25 → pool 12, 12, 12, 12 → pool 6."""
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


@printed_as("ZFNet")
class ZFNet(nn.Module):
    """The paper's network (section 4.1, Fig. 3).

    Maps of (N, 3, 224, 224): 110 → pool 55, 26 → pool 13, 13, 13, 13 → pool 6; logits (N, classes), or pool5 for a trunk.

    The paper states no padding. Padding 1 in conv1, none in conv2 and ceil pooling give the sizes of Fig. 3 exactly.
    """

    def __init__(self, options: ZFNetOptions | None = None) -> None:
        super().__init__()
        self.options = options = options or ZFNetOptions()
        third, fourth, fifth = options.middle
        removed = options.removed
        self.conv1 = nn.Conv2d(3, 96, 7, stride=2, padding=options.padding)
        self.conv2 = nn.Conv2d(96, 256, 5, stride=2)
        maps = 256  # of what the next layer takes
        if 3 not in removed:
            self.conv3, maps = nn.Conv2d(maps, third, 3, padding=1), third
        if 4 not in removed:
            self.conv4, maps = nn.Conv2d(maps, fourth, 3, padding=1), fourth
        self.conv5 = nn.Conv2d(maps, fifth, 3, padding=1)
        self.relu = nn.ReLU()
        self.norm = LocalResponseNorm(options.contrast)
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.pool5 = nn.MaxPool2d(options.pool5, stride=2, ceil_mode=True)
        self.dropout = nn.Dropout(0.5)
        if options.classes:
            inputs = fifth * 6 * 6
            if 6 not in removed:
                self.fc6, inputs = nn.Linear(inputs, options.hidden), options.hidden
            if 7 not in removed:
                self.fc7, inputs = nn.Linear(inputs, options.fc7 or options.hidden), options.fc7 or options.hidden
            self.fc8 = nn.Linear(inputs, options.classes)
        initialise(self)

    def _pool_and_normalise(self, x: Tensor) -> Tensor:
        if self.options.order == "pool-norm":
            return self.norm(self.pool(x))
        return self.pool(self.norm(x))

    @property
    def layer_names(self) -> list[str]:
        """The paper's names of its layers, in the order in which they run."""
        return [name for name, _ in self.named_children() if name.startswith(("conv", "fc")) and name != "fc8"]

    def forward(self, x: Tensor) -> Tensor:
        x = self._pool_and_normalise(self.relu(self.conv1(x)))
        x = self._pool_and_normalise(self.relu(self.conv2(x)))
        if 3 not in self.options.removed:
            x = self.relu(self.conv3(x))
        if 4 not in self.options.removed:
            x = self.relu(self.conv4(x))
        x = self.pool5(self.relu(self.conv5(x)))
        if not self.options.classes:
            return x
        x = x.flatten(1)
        if 6 not in self.options.removed:
            x = self.dropout(self.relu(self.fc6(x)))
        if 7 not in self.options.removed:
            x = self.dropout(self.relu(self.fc7(x)))
        return self.fc8(x)
