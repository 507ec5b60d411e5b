"""Photos as inputs, against torchvision's transforms."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import AlexNet_Weights
from torchvision.transforms import InterpolationMode, functional
from torchvision.transforms._presets import ImageClassification

from deconvnet.data import Preprocessing, torchvision_preprocessing
from deconvnet.data.transforms import per_channel
from deconvnet.errors import UsageError

SIZES = [
    (256, 256), (224, 224), (333, 251), (251, 333), (257, 255), (640, 481), (1023, 769), (500, 7), (17, 31),
    (31, 2000), (3000, 40), (1, 1), (1, 60),
]  # fmt: skip


def noise(width, height):
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


def grey_levels(difference):
    """A difference of inputs in grey levels of the photo."""
    return (difference * torchvision_preprocessing().std * 255).abs().max().item()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_inputs_are_torchvisions_within_one_grey_level(width, height, interpolation):
    image = noise(width, height)
    transforms = AlexNet_Weights.IMAGENET1K_V1.transforms(interpolation=InterpolationMode(interpolation))
    ours, theirs = torchvision_preprocessing(interpolation=interpolation)(image), transforms(image)
    assert ours.shape == theirs.shape == (3, 224, 224)
    assert ours.dtype == torch.float32
    assert grey_levels(ours - theirs) < 1.001
    assert (ours - theirs).abs().mean() < 0.005  # rounding, not a shifted crop


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("resize", "crop"), [(236, 224), (342, 299), (384, 384)])
def test_a_camera_photo_is_seen_as_torchvision_sees_it(resize, crop, interpolation):
    coarse = noise(75, 50)
    image = coarse.resize((3000, 2000), Image.Resampling.BICUBIC)
    theirs = ImageClassification(crop_size=crop, resize_size=resize, interpolation=InterpolationMode(interpolation))(image)
    ours = torchvision_preprocessing(resize, crop, interpolation)(image)
    assert grey_levels(ours - theirs) < 1.001
    assert (ours - theirs).abs().mean() < 0.005


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop": 257}, "resize = 256, crop = 257: they are whole numbers of pixels, and crop is from 1 to resize"),
        ({"crop": 0}, "crop is from 1 to resize"),
        ({"crop": 224.0}, "crop = 224.0: they are whole numbers"),
        ({"resize": 256.0}, "resize = 256.0"),
        ({"crop": True}, "crop = True"),
        ({"scale": 0.0}, "scale = 0.0: it is the value of white, 1 or 255"),
        ({"scale": True}, "scale = True"),
        ({"mean": per_channel((123, 117, 104))}, "scale = 1 and a mean of 104 to 123"),
        ({"mean": per_channel((0, -0.1, 0))}, "a mean of -0.1 to 0"),
        ({"mean": per_channel((0, float("nan"), 0))}, "a mean of nan"),
        ({"std": per_channel((1, 0, 1))}, "finite and above 0"),
        ({"std": per_channel((1, float("inf"), 1))}, "finite and above 0"),
        ({"scale": 255.0, "std": per_channel((0.2, 0.2, 0.2))}, "meant for scale = 1"),
        ({"mean": (0.5, 0.5, 0.5)}, "The mean of a preprocessing is a tensor: per_channel"),
        ({"mean": torch.zeros(3)}, "The mean of a preprocessing is a tensor: per_channel"),
        ({"std": 1.0}, "The std of a preprocessing is a tensor"),
        ({"interpolation": "area"}, "is one of nearest, box, bilinear, hamming, bicubic, lanczos, not 'area'"),
        ({"crop_mode": "border"}, "crop_mode is one of center, squash, not 'border'"),
    ],
)
def test_what_no_photo_could_go_through_is_refused(changes, message):
    sound = {"resize": 256, "crop": 224, "scale": 1.0, "mean": per_channel((0, 0, 0)), "std": per_channel((1, 1, 1))}
    with pytest.raises(UsageError, match=message):
        Preprocessing(**{**sound, **changes})


def test_a_grey_photo_becomes_three_equal_channels():
    image = noise(300, 260).convert("L")
    theirs = AlexNet_Weights.IMAGENET1K_V1.transforms()(image.convert("RGB"))
    assert grey_levels(torchvision_preprocessing()(image) - theirs) < 1.001


def test_scale_255_subtracts_the_mean_in_grey_levels():
    image = noise(400, 300)
    preprocessing = Preprocessing(256, 227, 255.0, per_channel((123, 117, 104)), per_channel((1, 1, 1)))
    cropped = functional.center_crop(functional.resize(image, 256), 227)
    expected = np.array(cropped, dtype=np.float32).transpose(2, 0, 1) - np.array([123, 117, 104]).reshape(3, 1, 1)
    assert np.abs(preprocessing(image).numpy() - expected).max() <= 1.001


def test_the_channels_are_red_green_blue():
    preprocessing = Preprocessing(256, 224, 255.0, per_channel((1, 2, 3)), per_channel((1, 10, 100)))
    red, green, blue = preprocessing(Image.new("RGB", (300, 300), (201, 102, 53)))
    assert (red == 200).all()
    assert (green == 10).all()
    assert (blue == 0.5).all()


def test_a_mean_image_is_subtracted_pixel_by_pixel():
    mean = torch.rand(3, 227, 227) * 255
    zero, one = per_channel((0, 0, 0)), per_channel((1, 1, 1))
    image = noise(300, 260)
    without = Preprocessing(256, 227, 255.0, zero, one)(image)
    assert torch.equal(Preprocessing(256, 227, 255.0, mean, one)(image), without - mean)


@pytest.mark.parametrize("size", [(300, 260), (10, 900), (227, 227)])
def test_the_view_is_the_picture_that_the_input_is_made_of(size):
    preprocessing = Preprocessing(256, 227, 255.0, per_channel((0, 0, 0)), per_channel((1, 1, 1)))
    image = noise(*size)
    view = preprocessing.view(image)
    assert view.size == (227, 227)
    assert view.mode == "RGB"
    assert (np.array(view).transpose(2, 0, 1) == preprocessing(image).numpy()).all()


def test_a_photo_of_exactly_the_right_size_is_not_resampled():
    image = noise(224, 224)
    assert (np.array(torchvision_preprocessing(224, 224).view(image)) == np.array(image)).all()


def test_a_crop_as_large_as_the_resized_photo_takes_photos_of_any_size():
    preprocessing = torchvision_preprocessing(224, 224)
    for width in range(1, 700, 13):
        assert preprocessing.view(Image.new("L", (width, 333))).size == (224, 224)


@pytest.mark.parametrize("size", [1, 224])
@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_pixels_turns_inputs_back_into_the_views(size, scale):
    mean = torch.rand(3, size, size)
    preprocessing = Preprocessing(256, 224, scale, mean * scale, per_channel((0.2, 0.3, 0.4)) * scale)
    images = [noise(300, 260), noise(230, 400)]
    views = preprocessing.denormalise(torch.stack([preprocessing(image) for image in images]))
    assert views.dtype == np.uint8
    assert (views == np.stack([np.array(preprocessing.view(image)) for image in images])).all()
