"""Photos for training as they are usually loaded: torchvision's ImageFolder and transforms."""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import CenterCrop, Compose, Normalize, RandomCrop, RandomHorizontalFlip, Resize, ToTensor

SQUARE = Compose([Resize(256), CenterCrop(256)])
TRANSFORM = Compose(
    [
        SQUARE,
        RandomCrop(224),
        RandomHorizontalFlip(),
        ToTensor(),
        Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
)


def batches(folder: Path, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """An epoch's batches, (n, 3, 224, 224) float32 and class numbers, made in this process."""
    dataset = ImageFolder(str(folder), TRANSFORM)
    yield from DataLoader(dataset, batch_size, shuffle=True, drop_last=True)
