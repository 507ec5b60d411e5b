"""Mining as it is usually written: torchvision's ImageFolder, a DataLoader, forward hooks and topk."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

VIEW = Compose([Resize(256), CenterCrop(224)])
TRANSFORM = Compose([VIEW, ToTensor(), Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])


@torch.inference_mode()
def strongest(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    folder: Path,
    top: int = 9,
    batch_size: int = 64,
    workers: int = 2,
    device: str = "cpu",
) -> tuple[dict[str, tuple[Tensor, Tensor]], list[str]]:
    """By layer the largest values (units, top) and which photos they are in; and the photos' files.

    `layers` are convolutions: their largest output, if it is positive, is the largest after the ReLU that follows.
    """
    dataset = ImageFolder(str(folder), TRANSFORM)
    loader = DataLoader(dataset, batch_size, num_workers=workers, pin_memory=device.startswith("cuda"))
    model = model.eval().to(device)
    maxima: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        maxima[name] = output.amax(dim=(2, 3)).clamp(min=0)

    hooks = [layer.register_forward_hook(partial(keep, name)) for name, layer in layers.items()]
    best: dict[str, tuple[Tensor, Tensor]] = {}
    seen = 0
    for images, _ in loader:
        model(images.to(device, non_blocking=True))
        numbers = torch.arange(seen, seen + len(images), device=device)
        seen += len(images)
        for name, maximum in maxima.items():
            values, photos = maximum.T, numbers.expand(maximum.shape[1], -1)
            if name in best:
                values, photos = torch.cat([best[name][0], values], dim=1), torch.cat([best[name][1], photos], dim=1)
            values, places = values.topk(min(top, values.shape[1]), dim=1)
            best[name] = values, photos.gather(1, places)
    for hook in hooks:
        hook.remove()
    return {name: (values.cpu(), photos.cpu()) for name, (values, photos) in best.items()}, [
        path for path, _ in dataset.samples
    ]
