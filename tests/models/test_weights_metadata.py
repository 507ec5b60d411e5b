"""What is said of weights beside their tensors: read from TOML, and refused in a sentence each where it is unsound."""

import numpy as np
import pytest
import torch
from PIL import Image

from deconvnet.data import imagenet_classes
from deconvnet.errors import DeconvnetError
from deconvnet.local_response_norm import LRNConstants
from deconvnet.models import ZFNetOptions
from deconvnet.models.weights_metadata import check_options, parse_metadata, preprocessing_metadata, read_metadata

SOUND = {"resize": 256, "crop": 224, "channels": "RGB", "scale": 1, "mean": [0.1, 0.2, 0.3]}


def refusal(entries):
    with pytest.raises(DeconvnetError) as caught:
        parse_metadata(entries, "weights.toml")
    sentence = str(caught.value)
    assert sentence.startswith("weights.toml")
    assert sentence.endswith(".")
    return sentence


def test_a_toml_file_says_everything(tmp_path):
    file = tmp_path / "d.toml"
    file.write_text(
        """
        network = "zfnet"
        weights = "mine"
        resize = 250
        crop = 224
        channels = "RGB"
        scale = 255
        mean = [1, 2.5, 3]
        std = 2
        classes = [["n01", "cat"], ["n02", "dog"]]
        [options]
        order = "norm-pool"
        [options.contrast]
        k = 1.0
        """
    )
    found = read_metadata(file)
    assert (found.network, found.weights, found.bgr) == ("zfnet", "mine", False)
    assert (found.preprocessing.resize, found.preprocessing.crop, found.preprocessing.scale) == (250, 224, 255.0)
    assert found.preprocessing.mean.tolist() == [[[1]], [[2.5]], [[3]]]
    assert found.preprocessing.std.tolist() == [[[2]], [[2]], [[2]]]
    assert found.classes == (("n01", "cat"), ("n02", "dog"))
    assert found.options == {"order": "norm-pool", "contrast": {"k": 1.0}}


def test_only_the_preprocessing_must_be_said():
    found = parse_metadata(SOUND, "weights.toml")
    assert found.preprocessing.std.tolist() == [[[1]], [[1]], [[1]]]
    assert (found.network, found.weights, found.options, found.classes) == ("", "", {}, None)
    assert found.preprocessing.interpolation == "bilinear"


def test_one_number_is_the_mean_of_all_channels():
    assert parse_metadata({**SOUND, "mean": 0.5}, "").preprocessing.mean.tolist() == [[[0.5]]] * 3


def test_bgr_turns_mean_and_std_round():
    found = parse_metadata({**SOUND, "channels": "BGR", "scale": 255, "mean": [1, 2, 3], "std": [4, 5, 6]}, "")
    assert found.bgr
    assert found.preprocessing.mean.flatten().tolist() == [3, 2, 1]
    assert found.preprocessing.std.flatten().tolist() == [6, 5, 4]


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_a_mean_image_is_read_from_beside_the_toml_file(tmp_path, channels):
    mean = np.random.default_rng(0).random((3, 224, 224))
    np.save(tmp_path / "mean.npy", mean)
    (tmp_path / "d.toml").write_text(f'resize = 256\ncrop = 224\nchannels = "{channels}"\nscale = 255\nmean = "mean.npy"\n')
    found = read_metadata(tmp_path / "d.toml").preprocessing.mean
    assert found.dtype == torch.float32
    assert (found.numpy() == (mean if channels == "RGB" else mean[::-1]).astype(np.float32)).all()


def test_the_thousand_classes_have_a_short_name():
    classes = parse_metadata({**SOUND, "classes": "imagenet1k"}, "").classes
    assert classes == imagenet_classes()
    assert len(classes) == 1000
    assert classes[0] == ("n01440764", "tench")
    assert [wordnet for wordnet, _ in classes] == sorted({wordnet for wordnet, _ in classes})


def test_an_unknown_entry_is_named():
    sentence = refusal({**SOUND, "colour": 1})
    assert "has an unknown entry 'colour'" in sentence
    assert (
        "it needs resize, crop, channels, scale, mean and may have std, interpolation, crop_mode, network, weights, "
        "options, classes" in sentence
    )


@pytest.mark.parametrize("name", SOUND)
def test_a_missing_entry_is_named(name):
    assert f"lacks the entry '{name}'" in refusal({key: value for key, value in SOUND.items() if key != name})


@pytest.mark.parametrize(
    ("entries", "saying"),
    [
        ({"channels": "GRB"}, "says channels = 'GRB'"),
        ({"channels": 3}, "says channels = 3"),
        ({"scale": 2}, "scale = 2.0: it is the value of white, 1 or 255"),
        ({"scale": "255"}, "scale = '255'"),
        ({"crop": 257}, "resize = 256, crop = 257: they are whole numbers of pixels, and crop is from 1 to resize"),
        ({"crop": 0}, "crop = 0"),
        ({"resize": 256.5}, "resize = 256.5"),
        ({"resize": "256"}, "resize = '256'"),
        ({"interpolation": "area"}, "interpolation is one of"),
        ({"crop_mode": "border"}, "crop_mode is one of center, squash, not 'border'"),
        ({"interpolation": ["bicubic"]}, "not ['bicubic']"),
        ({"mean": [1, 2]}, "mean is [1, 2]: it is one number or three"),
        ({"mean": ["a", "b", "c"]}, "it is one number or three"),
        ({"mean": {}}, "it is one number or three"),
        ({"std": [1, 2, 3, 4]}, "std is [1, 2, 3, 4]: it is one number or three"),
        ({"std": [1, 0, 1]}, "std = [1.0, 0.0, 1.0]: it is finite and above 0"),
        ({"std": -1}, "finite and above 0"),
        ({"std": float("nan")}, "finite and above 0"),
        ({"std": float("inf")}, "finite and above 0"),
        ({"std": True}, "std is True: it is one number or three"),
        ({"mean": True}, "mean is True: it is one number or three"),
        ({"mean": [104, 117, 123]}, "scale = 1 and a mean of 104 to 123: a mean is from 0 (black) to scale (white)"),
        ({"scale": 255, "mean": 0.4, "std": 0.229}, "a mean and a std that are meant for scale = 1: multiply them by 255"),
        ({"scale": True}, "scale = True"),
        ({"crop": True}, "crop = True"),
        ({"options": 5}, "has options 5: they are a table of names and values"),
        ({"options": ["order"]}, "has options ['order']"),
        ({"classes": "imagenet"}, 'neither "imagenet1k" nor pairs'),
        ({"classes": ["cat", "dog and cat"]}, 'neither "imagenet1k" nor pairs'),
        ({"classes": 10}, 'neither "imagenet1k" nor pairs'),
    ],
)
def test_an_unsound_entry_is_refused(entries, saying):
    assert saying in refusal({**SOUND, **entries})


def test_a_mean_image_must_have_the_size_of_the_crop(tmp_path):
    np.save(tmp_path / "mean.npy", np.zeros((3, 256, 256)))
    with pytest.raises(DeconvnetError, match=r"needs a mean of 1 or 3 numbers or an image \(3, 224, 224\)"):
        parse_metadata({**SOUND, "mean": "mean.npy"}, "weights.toml", folder=tmp_path)


def test_a_mean_image_that_is_missing_or_broken_is_named(tmp_path):
    (tmp_path / "broken.npy").write_bytes(b"no array")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("nowhere.npy", "broken.npy", "objects.npy"):
        with pytest.raises(DeconvnetError, match=f"The mean image {tmp_path / name} cannot be read"):
            parse_metadata({**SOUND, "mean": name}, "weights.toml", folder=tmp_path)


@pytest.mark.parametrize("text", ["resize = ", "resize = 256\nresize = 256", "\x00"])
def test_what_is_no_toml_is_refused(tmp_path, text):
    (tmp_path / "d.toml").write_text(text)
    with pytest.raises(DeconvnetError, match=f"{tmp_path / 'd.toml'} is not a TOML file"):
        read_metadata(tmp_path / "d.toml")


def test_a_photo_is_no_toml_file(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    with pytest.raises(DeconvnetError, match="is not a TOML file"):
        read_metadata(tmp_path / "a.png")


def test_a_missing_toml_file_is_named(tmp_path):
    with pytest.raises(DeconvnetError, match=f"There is no file {tmp_path / 'd.toml'}"):
        read_metadata(tmp_path / "d.toml")


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_a_preprocessing_survives_being_written_and_read(channels, interpolation):
    entries = {**SOUND, "channels": channels, "scale": 255, "std": [4, 5, 6], "interpolation": interpolation}
    before = parse_metadata(entries, "").preprocessing
    after = parse_metadata(preprocessing_metadata(before, "mean.npy"), "").preprocessing
    assert (after.resize, after.crop, after.scale) == (before.resize, before.crop, before.scale)
    assert after.interpolation == before.interpolation == interpolation
    assert torch.equal(after.mean, before.mean)
    assert torch.equal(after.std, before.std)


def test_options_become_what_the_dataclass_has():
    entries = {"middle": [512, 1024, 512], "hidden": 16, "order": "norm-pool"}
    assert check_options(ZFNetOptions(), entries, "") == {"middle": (512, 1024, 512), "hidden": 16, "order": "norm-pool"}


def test_an_unknown_option_is_named_with_those_there_are():
    with pytest.raises(
        DeconvnetError,
        match="unknown option 'groups': there are classes, contrast, fc7, hidden, middle, order, padding, pool5, removed",
    ):
        check_options(ZFNetOptions(), {"groups": 2}, "weights.toml")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden", "many"),
        ("hidden", 16.5),
        ("middle", [1, 2]),
        ("middle", [1, 2, "3"]),
        ("middle", 3),
        ("contrast", 5),
        ("hidden", True),
        ("order", 1),
    ],
)
def test_an_option_of_another_kind_is_refused(name, value):
    with pytest.raises(DeconvnetError, match=f"weights.toml has the option {name} = "):
        check_options(ZFNetOptions(), {name: value}, "weights.toml")


@pytest.mark.parametrize("value", [True, float("inf"), float("nan"), -1.0])
def test_a_constant_is_a_finite_number(value):
    with pytest.raises(DeconvnetError, match=r"weights\.toml has the option k = "):
        check_options(LRNConstants(), {"k": value}, "weights.toml")
