"""`as_preprocessing`: a preprocessing from what people hold of a network: torchvision's, timm's or transformers' description
of it, or a transform.

Whatever is read from a description is compared with what the library itself makes of some pictures. Neither timm nor
transformers is imported unless it is there already: who holds their objects has imported them.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image
from torch import Tensor

from deconvnet.data.transform_preprocessing import (
    PROBE_SIZES,
    TransformPreprocessing,
    probe_picture,
    transform_preprocessing,
)
from deconvnet.data.transforms import Preprocessing, per_channel
from deconvnet.errors import UsageError

#: What a `Network` takes: what turns images into its inputs.
AnyPreprocessing = Preprocessing | TransformPreprocessing

#: By how many grey levels of 255 two inputs of one picture may differ at a pixel, and on average: Pillow rounds to grey
#: levels after each of two passes, and the tensors that transformers resize are rounded once. A crop shifted by a pixel or
#: another interpolation differ by more.
_LARGEST_DIFFERENCE, _MEAN_DIFFERENCE = 2.5, 0.5

#: The same for a black and a white picture, of which nothing is rounded: they tell other means and stds.
_PLAIN_DIFFERENCE = 0.1


def as_preprocessing(source: Any) -> AnyPreprocessing:
    """A preprocessing from one of

    - a `Preprocessing`, or what `transform_preprocessing` makes: itself;
    - torchvision's weights, such as `ResNet50_Weights.DEFAULT`, or their `transforms()`;
    - timm's data configuration (`timm.data.resolve_model_data_config(module)`, or `module.pretrained_cfg`), with its crop
      share, crop mode and interpolation;
    - an image processor of transformers;
    - any other callable that makes a float tensor (3, H, W) of a PIL image, such as a `torchvision.transforms.Compose`.

    The result of a description is compared with the inputs that its library makes of pictures, large and small, wide and
    high. If a `Preprocessing` cannot say the same, the library's own transform is run for each image, as a callable is.

    Raises `UsageError` for anything else, and as `transform_preprocessing`.
    """
    if isinstance(source, Preprocessing | TransformPreprocessing):
        return source
    if isinstance(source, Mapping) and "mean" in source and "input_size" in source:
        transform, described = _timm(source)
    elif callable(getattr(source, "transforms", None)) and hasattr(source, "meta"):  # torchvision's weights
        transform = source.transforms()
        described = _torchvision(transform)
    elif hasattr(source, "resize_size") and callable(source):
        transform, described = source, _torchvision(source)
    elif hasattr(source, "image_mean") and callable(source):
        transform, described = _transformers(source)
    elif callable(source) and not isinstance(source, type):
        return transform_preprocessing(source)
    else:
        raise UsageError(
            "A network needs the Preprocessing that its weights were trained with, such as torchvision_preprocessing(), or "
            "what one is made of: torchvision's weights, timm's data configuration, an image processor of transformers or a "
            f"transform, not {source!r}."
        )
    if described is not None and not difference(described, transform):
        return described
    return transform_preprocessing(transform)


def difference(preprocessing: Preprocessing, transform: Callable[[Image.Image], Tensor]) -> str:
    """How the inputs made of some pictures differ from those of a transform, in words; empty if they do not."""
    plain = [Image.new("RGB", PROBE_SIZES[0], colour) for colour in ("black", "white")]
    for picture in (*plain, *map(probe_picture, _probe_sizes(preprocessing))):
        ours, theirs = preprocessing(picture), transform(picture)
        if ours.shape != theirs.shape:
            return f"inputs of shape {tuple(ours.shape)}, not {tuple(theirs.shape)}"
        levels = (ours - theirs).abs() * preprocessing.std * (255 / preprocessing.scale)
        largest, mean = levels.max().item(), levels.mean().item()
        allowed = _PLAIN_DIFFERENCE if picture in plain else _LARGEST_DIFFERENCE
        if largest > allowed or mean > _MEAN_DIFFERENCE:
            return f"inputs that differ by {mean:.2g} grey levels on average, {largest:.2g} at most"
    return ""


def _probe_sizes(preprocessing: Preprocessing) -> list[tuple[int, int]]:
    """Sizes of pictures, wide and high, to be halved or left as they are, of which borders of all kinds are cropped: half of
    an odd one is rounded in more than one way, which depends on its remainder by 4.
    """
    shorter = preprocessing.resize
    sizes = [(scale * (shorter + 41 + number), scale * shorter) for number, scale in enumerate((2, 1, 2, 1))]
    return [*PROBE_SIZES, *sizes, *((height, width) for width, height in sizes)]


def _torchvision(transform: Any) -> Preprocessing | None:
    """What torchvision's presets of transforms for classification state; None of others."""
    try:
        (resize,), (crop,) = transform.resize_size, transform.crop_size
        return _preprocessing(resize, crop, transform.mean, transform.std, transform.interpolation.value)
    except (AttributeError, TypeError, ValueError):
        return None


def _timm(configuration: Mapping[str, Any]) -> tuple[Callable[[Image.Image], Tensor], Preprocessing | None]:
    """Timm's transform for evaluation, and what its configuration states."""
    from timm.data import create_transform, resolve_data_config

    stated = resolve_data_config({}, pretrained_cfg=dict(configuration))
    _, height, width = stated["input_size"]
    transform = create_transform(**stated, is_training=False)
    if height != width or stated["crop_mode"] not in ("center", "squash"):
        return transform, None
    described = _preprocessing(
        math.floor(height / stated["crop_pct"]),
        height,
        stated["mean"],
        stated["std"],
        stated["interpolation"],
        stated["crop_mode"],
    )
    return transform, described


def _transformers(processor: Any) -> tuple[Callable[[Image.Image], Tensor], Preprocessing | None]:
    """What an image processor of transformers does, and what it states."""

    def transform(image: Image.Image) -> Tensor:
        pixels: Tensor = processor(image, return_tensors="pt")["pixel_values"][0]
        return pixels

    def side(sizes: Any, name: str) -> Any:
        return sizes.get(name) if isinstance(sizes, Mapping) else getattr(sizes, name, None)

    size = getattr(processor, "size", None)
    shortest, height = side(size, "shortest_edge"), side(size, "height")
    resize = shortest or height
    crop = side(processor.crop_size, "height") if getattr(processor, "do_center_crop", False) else height
    try:
        interpolation = Image.Resampling(int(processor.resample)).name.lower()
        mode = "center" if shortest else "squash"
        return transform, _preprocessing(resize, crop, processor.image_mean, processor.image_std, interpolation, mode)
    except (TypeError, ValueError):
        return transform, None


def _preprocessing(
    resize: Any, crop: Any, mean: Any, std: Any, interpolation: Any, crop_mode: Any = "center"
) -> Preprocessing | None:
    """A preprocessing of pixels from 0 to 1; None if there is none like that."""
    try:
        return Preprocessing(resize, crop, 1.0, per_channel(mean), per_channel(std), interpolation, crop_mode)
    except (UsageError, RuntimeError, TypeError):
        return None
