"""Networks whose inputs are no square photos, written a second time with `relu` as an argument for the oracle, and data."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from deconvnet import Network

#: Channels, height and width.
SHAPES = ((1, 28, 40), (4, 32, 20), (3, 40, 24))


class OddShapes(nn.Module):
    """Two convolutions whose kernels, strides and paddings differ between rows and columns, a pooling, a product."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(shape[0], 6, (5, 3), stride=(2, 1), padding=(2, 0))
        self.conv2 = nn.Conv2d(6, 8, (3, 4), padding=(1, 2))
        with torch.no_grad():
            count = self.maps(torch.zeros(1, *shape), F.relu).shape[1]
        self.fc3 = nn.Linear(count, 5)
        self.fc4 = nn.Linear(5, 3)

    def maps(self, x: Tensor, relu: Callable[[Tensor], Tensor]) -> Tensor:
        x = F.max_pool2d(relu(self.conv1(x)), (3, 2), (2, 3))
        return relu(self.conv2(x)).flatten(1)

    def forward(self, x: Tensor, relu: Callable[[Tensor], Tensor] = F.relu) -> Tensor:
        return self.fc4(relu(self.fc3(self.maps(x, relu))))


def odd_network(shape: tuple[int, int, int], **options) -> Network:
    """One of `OddShapes` with fixed random weights, and no preprocessing."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        module = OddShapes(shape)
    return Network(module, input_shape=shape, layer_names=["conv1", "conv2", "fc3"], name="odd", **options)


class Blobs(Dataset):
    """`count` inputs with noise and a bright blob each, whose label says in which quarter it lies."""

    def __init__(self, shape: tuple[int, int, int], count: int = 37) -> None:
        generator = torch.Generator().manual_seed(1)
        self.inputs = 0.3 * torch.randn(count, *shape, generator=generator)
        self.labels = []
        for x, place in zip(self.inputs, torch.rand(count, 2, generator=generator).tolist(), strict=True):
            row, column = (int(share * (length - 6)) for share, length in zip(place, shape[1:], strict=True))
            x[:, row : row + 6, column : column + 6] += 2
            self.labels.append(2 * (place[0] > 0.5) + (place[1] > 0.5))

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.inputs[index], self.labels[index]
