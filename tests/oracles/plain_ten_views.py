"""Evaluate a network image by image and view by view, written from the definition with Pillow, NumPy and plain loops."""

import numpy as np
import torch
from PIL import Image, ImageOps


def views_of(image: Image.Image, resize: int, crop: int, count: int) -> list[Image.Image]:
    """The central view; or the corners and the centre of the central square, then the same mirrored."""
    width, height = image.size
    if width < height:
        image = image.resize((resize, resize * height // width), Image.Resampling.BILINEAR)
    else:
        image = image.resize((resize * width // height, resize), Image.Resampling.BILINEAR)
    left, top = round((image.width - resize) / 2), round((image.height - resize) / 2)
    square = image.crop((left, top, left + resize, top + resize))
    far, middle = resize - crop, round((resize - crop) / 2)
    if count == 1:
        return [square.crop((middle, middle, middle + crop, middle + crop))]
    corners_and_centre = [(0, 0), (far, 0), (0, far), (far, far), (middle, middle)]
    views = [square.crop((x, y, x + crop, y + crop)) for x, y in corners_and_centre]
    return views + [ImageOps.mirror(view) for view in views]


def probabilities_of(network, image: Image.Image, count: int) -> np.ndarray:
    """(classes,), the mean over the views; every view has the same mean image subtracted."""
    preprocessing = network.preprocessing
    total = 0.0
    for view in views_of(image, preprocessing.resize, preprocessing.crop, count):
        pixels = np.asarray(view, dtype=np.float32).transpose(2, 0, 1) * (preprocessing.scale / 255)
        x = (pixels - preprocessing.mean.numpy()) / preprocessing.std.numpy()
        with torch.no_grad():
            scores = network.module(torch.from_numpy(x.astype(np.float32))[None])[0].double().numpy()
        powers = np.exp(scores - scores.max())
        total = total + powers / powers.sum()
    return total / count


def wrong_of(probabilities: list[np.ndarray], targets: list[int]) -> tuple[int, int]:
    """How many targets are not the first, and not among the first five, of the classes sorted by probability."""
    top1 = top5 = 0
    for by_class, target in zip(probabilities, targets, strict=True):
        order = sorted(range(len(by_class)), key=lambda index: (-by_class[index], index))
        top1 += target != order[0]
        top5 += target not in order[:5]
    return top1, top5
