"""The share of photos that a trained network gets wrong."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deconvnet.errors import DeconvnetError
from deconvnet.images import Photos, batches
from deconvnet.images.views import central_crop, square, ten_views
from deconvnet.networks import Network
from deconvnet.progress import bar


def share_wrong(
    net: Network, photos: Photos, views: int, *, workers: int | None = None, progress: bool = False
) -> tuple[float, float]:
    """Top-1 and top-5 error, from 0 to 1, on photos of the very classes that the network was trained on, in float32.

    `views` is 1, the centre of the central 256×256 as in training's validation, or 10: its corners and centre, each
    mirrored, with probabilities averaged. Photos that cannot be read do not count; raises `DeconvnetError` if none can.
    """
    preprocessing = net.preprocessing
    numbers = {name: number for number, name in enumerate(photos.classes)}
    targets = torch.tensor([numbers[label] for label in photos.labels])

    def cut(photo: Image.Image) -> Tensor:
        """(views, 3, crop, crop)."""
        whole, crop = square(photo)[None], preprocessing.crop
        shown = central_crop(whole, crop) if views == 1 else ten_views(whole, crop)[0]
        pixels = torch.from_numpy(shown.astype(np.float32)).permute(0, 3, 1, 2)
        return (pixels * (preprocessing.scale / 255) - preprocessing.mean) / preprocessing.std

    wrong, seen = np.zeros(2, np.int64), 0
    with bar(f"judging {net.name}", len(photos), progress) as advance:
        for batch in batches(photos, cut, 64 if views == 1 else 16, workers):
            if len(batch.rows):
                each = [net.probabilities(batch.inputs[batch.rows, view]).cpu() for view in range(views)]
                found = torch.stack(each).mean(dim=0)
                hit = found.topk(min(5, found.shape[1])).indices == targets[batch.images][:, None]
                wrong += [int((~hit[:, 0]).sum()), int((~hit.any(dim=1)).sum())]
                seen += len(hit)
            advance(len(batch.rows) + len(batch.skipped))
    if not seen:
        raise DeconvnetError(f"None of the {len(photos)} photos in {photos.root} can be read.")
    top1, top5 = (wrong / seen).tolist()
    return top1, top5
