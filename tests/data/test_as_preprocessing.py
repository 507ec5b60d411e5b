"""Preprocessing from what libraries state: against their own transforms."""

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image
from timm.data import create_transform, resolve_data_config
from torchvision import models
from torchvision import transforms as tv

from deconvnet import UsageError, as_preprocessing, torchvision_preprocessing, transform_preprocessing
from deconvnet.data import Preprocessing, TransformPreprocessing, per_channel
from deconvnet.data import as_preprocessing as package_function
from deconvnet.data.as_preprocessing import _probe_sizes, difference
from deconvnet.errors import DeconvnetError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: Sizes that are no probe picture's.
SIZES = [(640, 481), (333, 251), (190, 340), (61, 50), (224, 224), (231, 400), (402, 231)]


def noise(width, height):
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


def usual(*steps):
    return tv.Compose([*(steps or (tv.Resize(256), tv.CenterCrop(224))), tv.ToTensor(), tv.Normalize(MEAN, STD)])


@pytest.mark.parametrize(
    "weights",
    [
        models.ResNet50_Weights.IMAGENET1K_V2,
        models.EfficientNet_B0_Weights.DEFAULT,
        models.Inception_V3_Weights.DEFAULT,
        models.RegNet_Y_16GF_Weights.IMAGENET1K_SWAG_E2E_V1,
    ],
)
@pytest.mark.parametrize("size", SIZES)
def test_torchvisions_weights_show_what_torchvision_does(weights, size):
    image = noise(*size)
    for source in (weights, weights.transforms()):
        preprocessing = as_preprocessing(source)
        assert isinstance(preprocessing, Preprocessing)
        torch.testing.assert_close(preprocessing(image), weights.transforms()(image), atol=1e-5, rtol=0)


#: A usual one, another crop share and mean, a squashed one, and one that a `Preprocessing` cannot say.
CONFIGURATIONS = {
    "resnet18.a1_in1k": Preprocessing,
    "inception_v3.tf_adv_in1k": Preprocessing,
    "convnext_small.in12k_ft_in1k_384": Preprocessing,
    "border": TransformPreprocessing,
}


def configuration_of(name):
    if name == "border":
        return {**timm.models.get_pretrained_cfg("resnet18").to_dict(), "crop_mode": "border"}
    return timm.models.get_pretrained_cfg(name).to_dict()


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("size", SIZES)
def test_timms_configurations_show_what_timm_does(name, size):
    stated = configuration_of(name)
    resolved = resolve_data_config({}, pretrained_cfg=stated)
    image, transform = noise(*size), create_transform(**resolved, is_training=False)
    for source in (stated, resolved):
        preprocessing = as_preprocessing(source)
        assert type(preprocessing) is CONFIGURATIONS[name]
        torch.testing.assert_close(preprocessing(image), transform(image), atol=1e-5, rtol=0)


def test_a_squashed_image_keeps_its_sides():
    squashed = as_preprocessing(configuration_of("convnext_small.in12k_ft_in1k_384"))
    assert (squashed.crop_mode, squashed.resize, squashed.crop) == ("squash", 384, 384)
    image = Image.new("RGB", (400, 100), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 40, 100))  # its left tenth, which a central crop does not have
    assert np.array(squashed.view(image))[:, 10].tolist() == [[255, 0, 0]] * 384
    assert np.array(torchvision_preprocessing().view(image))[:, 10].tolist() == [[0, 0, 255]] * 224


#: transformers' processors, and whether a `Preprocessing` says the same.
PROCESSORS = {
    transformers.ViTImageProcessor: Preprocessing,
    transformers.BitImageProcessor: TransformPreprocessing,  # rounds half a pixel of a border down
    transformers.MobileNetV1ImageProcessor: TransformPreprocessing,
    transformers.LevitImageProcessor: TransformPreprocessing,  # resizes to other than it states
    transformers.ConvNextImageProcessor: TransformPreprocessing,
}


@pytest.mark.parametrize("processor_type", PROCESSORS)
@pytest.mark.parametrize("size", SIZES)
def test_processors_of_transformers_show_what_they_do(processor_type, size):
    processor, image = processor_type(), noise(*size)
    preprocessing = as_preprocessing(processor)
    assert type(preprocessing) is PROCESSORS[processor_type]
    ours, theirs = preprocessing(image), processor(image, return_tensors="pt")["pixel_values"][0]
    levels = (ours - theirs).abs() * preprocessing.std * 255
    # It resizes tensors, which are rounded to grey levels once.
    assert levels.max() <= (1.01 if isinstance(preprocessing, Preprocessing) else 0)
    assert levels.mean() < 0.3


@pytest.mark.parametrize("processor_type", PROCESSORS)
def test_inputs_of_a_processor_are_drawn_as_the_image(processor_type):
    preprocessing = as_preprocessing(processor_type())
    image = Image.new("RGB", (300, 260), (201, 102, 53))
    drawn = preprocessing.denormalise(preprocessing(image)[None])[0]
    assert np.abs(drawn[20:-20, 20:-20].astype(int) - (201, 102, 53)).max() <= 1


def test_what_is_a_preprocessing_stays_the_same():
    for source in (torchvision_preprocessing(), transform_preprocessing(usual())):
        assert as_preprocessing(source) is source
    assert package_function is as_preprocessing


@pytest.mark.parametrize("size", SIZES)
def test_a_transform_is_run_as_it_is(size):
    image, transform = noise(*size), usual(tv.Resize(256), tv.CenterCrop(200))
    preprocessing = as_preprocessing(transform)
    assert (preprocessing.crop, preprocessing.input_shape) == (200, (3, 200, 200))
    x = preprocessing(image)
    assert torch.equal(x, transform(image))
    assert torch.equal(preprocessing.normalise(preprocessing.view_pixels(image)), x)
    view = tv.CenterCrop(200)(tv.Resize(256)(image))
    assert (preprocessing.denormalise(x[None])[0] == np.array(view)).all()
    torch.testing.assert_close(preprocessing.mean, per_channel(MEAN), atol=1e-6, rtol=0)
    torch.testing.assert_close(preprocessing.std, per_channel(STD), atol=1e-6, rtol=0)


def test_a_transform_with_another_scale_is_drawn_too():
    caffe = tv.Compose([tv.Resize((32, 32)), tv.PILToTensor(), lambda pixels: pixels - per_channel((123, 117, 104))])
    preprocessing = as_preprocessing(caffe)
    torch.testing.assert_close(preprocessing.mean * 255, per_channel((123, 117, 104)), atol=1e-4, rtol=0)
    view = np.array(noise(300, 200).resize((32, 32), Image.Resampling.BILINEAR))
    assert (preprocessing.denormalise(preprocessing(noise(300, 200))[None])[0] == view).all()


def rounds_down(image):
    """Where half of a border is no whole number of pixels, the crop is a pixel further to the left or to the top."""
    resized = tv.Resize(256)(image)
    return usual(lambda image: tv.functional.crop(image, (image.height - 224) // 2, (image.width - 224) // 2, 224, 224))(
        resized
    )


def shifted(x):
    return torch.roll(x, 1, dims=2)


@pytest.mark.parametrize(
    "other",
    [
        usual(tv.Resize(255), tv.CenterCrop(224)),
        usual(tv.Resize(256, tv.InterpolationMode.BICUBIC), tv.CenterCrop(224)),
        usual(tv.Resize((256, 256)), tv.CenterCrop(224)),
        tv.Compose([usual(), shifted]),
        rounds_down,
        tv.Compose([tv.Resize(256), tv.CenterCrop(224), tv.ToTensor(), tv.Normalize((0.48, 0.45, 0.4), STD)]),
        tv.Compose([tv.Resize(256), tv.CenterCrop(224), tv.ToTensor(), tv.Normalize(MEAN, (0.226,) * 3)]),
    ],
)
def test_the_probe_pictures_tell_transforms_apart(other):
    assert not difference(torchvision_preprocessing(), usual())
    assert "grey levels" in difference(torchvision_preprocessing(), other)
    assert "shape (3, 224, 224), not (3, 256, 256)" in difference(torchvision_preprocessing(), usual(tv.Resize((256, 256))))


@pytest.mark.parametrize("preprocessing", [torchvision_preprocessing(), torchvision_preprocessing(224, 224)])
def test_the_probe_pictures_are_of_all_kinds(preprocessing):
    sizes = _probe_sizes(preprocessing)
    assert any(min(size) > preprocessing.resize for size in sizes)
    assert any(max(size) < preprocessing.crop for size in sizes)
    assert all(width != height for width, height in sizes)
    for axis in (0, 1):  # what is cropped off, by the remainders by which halves are rounded
        longer = [size for size in sizes if size[axis] > size[1 - axis]]
        resized = [preprocessing.resize * size[axis] // size[1 - axis] for size in longer]
        assert {(side - preprocessing.crop) % 4 for side in resized} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (usual(tv.RandomCrop(64, pad_if_needed=True)), "makes another input of the same picture each time"),
        (usual(tv.Resize(64)), r"makes inputs of shape \(3, 64, 89\) and \(3, 98, 64\) of pictures of two sizes"),
        (usual(tv.Resize((64, 48))), "have to be square"),
        (tv.Resize((64, 64)), "The transform makes a Image"),
        (tv.Compose([tv.Resize((64, 64)), tv.PILToTensor()]), "makes a tensor of torch.uint8"),
        (tv.Compose([tv.Resize((64, 64)), tv.Grayscale(), tv.ToTensor()]), r"makes a tensor of shape \(1, 64, 64\)"),
        (lambda image: usual()(image)[None], r"makes a tensor of shape \(1, 3, 224, 224\)"),
        (lambda image: usual()(image).flip(0), "mixes the colours"),
        (lambda image: usual()(image).square(), "does more to pixels than"),
        (lambda image: image.nothing, "AttributeError: .* has no attribute 'nothing'"),
        (torchvision_preprocessing, "such as torchvision_preprocessing"),
        (models.ResNet50_Weights, "needs the Preprocessing that its weights were trained with"),
        (3, "image processor of transformers or a transform, not 3"),
        (None, "not None"),
    ],
)
def test_what_makes_no_inputs_is_refused(transform, message):
    with pytest.raises(UsageError, match=message):
        as_preprocessing(transform)


def test_a_mean_that_is_not_the_transforms_is_refused():
    transform = usual()
    assert torch.equal(transform_preprocessing(transform, MEAN, STD).mean, transform_preprocessing(transform).mean)
    with pytest.raises(UsageError, match=r"normalises with a mean of \(0\.485, 0\.456, 0\.406\), not \(0\.5, 0\.5, 0\.5\)"):
        transform_preprocessing(transform, mean=(0.5, 0.5, 0.5), std=STD)
    with pytest.raises(UsageError, match="normalises with a std of"):
        transform_preprocessing(transform, std=(1, 1, 1))


def test_where_a_transform_does_more_its_mean_can_be_given():
    def squared(image):
        return usual()(image).square()

    preprocessing = transform_preprocessing(squared, MEAN, STD)
    assert torch.equal(preprocessing.mean, per_channel(MEAN))
    assert torch.equal(preprocessing(noise(300, 300)), squared(noise(300, 300)))


def test_a_transform_that_fails_on_an_image_says_on_which():
    def fails(image):
        if image.size == (300, 301):
            raise ValueError("such an image")
        return usual()(image) if image.size != (300, 302) else usual(tv.Resize((9, 9)))(image)

    preprocessing = as_preprocessing(fails)
    with pytest.raises(DeconvnetError, match=r"fails on an image of 300×301 pixels \(ValueError: such an image\)"):
        preprocessing(noise(300, 301))
    with pytest.raises(DeconvnetError, match=r"shape \(3, 9, 9\), not \(3, 224, 224\), of an image of 300×302 pixels"):
        preprocessing(noise(300, 302))


def test_an_image_in_another_mode_is_shown_to_it_in_colour():
    grey = noise(300, 260).convert("L")
    assert torch.equal(as_preprocessing(usual())(grey), usual()(grey.convert("RGB")))
