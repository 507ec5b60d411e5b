"""Image files, whole and broken, against the pixels that were written into them."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from deconvnet.data import UnreadableImage, decode, read_image

NOISE = np.random.default_rng(0).integers(0, 256, (31, 47, 3), dtype=np.uint8)
GREY_NOISE = NOISE[:, :, 0]
DOWN, ACROSS = np.mgrid[0:160:5, 0:240:5].astype(np.uint8)
RAMP = np.stack([ACROSS, DOWN, np.full_like(DOWN, 90)], axis=2)


def pixels(picture):
    assert picture.mode == "RGB"
    return np.array(picture).astype(int)


def save(path, array, format, **options):
    Image.fromarray(array).save(path, format, **options)
    return path


LOSSLESS = [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})]


@pytest.mark.parametrize(("format", "options"), LOSSLESS)
def test_lossless_colour_comes_back_exactly(tmp_path, format, options):
    assert (pixels(read_image(save(tmp_path / "a", NOISE, format, **options))) == NOISE).all()


@pytest.mark.parametrize(("format", "options"), LOSSLESS)
def test_lossless_grey_comes_back_as_three_equal_channels(tmp_path, format, options):
    assert (pixels(read_image(save(tmp_path / "a", GREY_NOISE, format, **options))) == GREY_NOISE[:, :, None]).all()


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
@pytest.mark.parametrize("array", [RAMP, RAMP[:, :, 0]], ids=["colour", "grey"])
def test_lossy_pictures_come_back_nearly(tmp_path, format, array):
    read = pixels(read_image(save(tmp_path / "a", array, format, quality=95)))
    assert abs(read - (array if array.ndim == 3 else array[:, :, None])).mean() < 3
    if array.ndim == 2 and format == "JPEG":  # lossy WebP has no grey
        assert (read == read[:, :, :1]).all()


def test_a_cmyk_jpeg_comes_back_as_the_colours_that_it_shows(tmp_path):
    Image.fromarray(RAMP).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert abs(pixels(read_image(tmp_path / "a.jpg")) - RAMP).mean() < 3


def test_a_palette_comes_back_as_its_colours(tmp_path):
    few = (NOISE // 128 * 255).astype(np.uint8)
    Image.fromarray(few).convert("P", palette=Image.Palette.ADAPTIVE, colors=8).save(tmp_path / "a.png")
    assert (pixels(read_image(tmp_path / "a.png")) == few).all()


def test_sixteen_bit_grey_keeps_its_upper_eight_bits(tmp_path):
    deep = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    assert (pixels(read_image(save(tmp_path / "a.png", deep, "PNG"))) == (deep // 256)[:, :, None]).all()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP"])
def test_contents_decide_and_not_the_suffix(tmp_path, format):
    wrong = tmp_path / ("a.jpg" if format != "JPEG" else "a.png")
    assert read_image(save(wrong, NOISE, format)).size == (47, 31)


def test_a_path_may_be_a_string(tmp_path):
    assert read_image(str(save(tmp_path / "a.png", NOISE, "PNG"))).size == (47, 31)


# What each EXIF orientation asks for, by its definition: which corner of the picture the first row and column stand at.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a[::-1].transpose(1, 0, 2),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a[:, ::-1].transpose(1, 0, 2),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_photo_is_turned_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert (pixels(read_image(save(tmp_path / "a.png", NOISE, "PNG", exif=exif))) == UPRIGHT[orientation](NOISE)).all()
    jpeg = read_image(save(tmp_path / "a.jpg", NOISE, "JPEG", exif=exif))
    assert jpeg.size == ((47, 31) if orientation < 5 else (31, 47))


def test_an_orientation_that_does_not_exist_is_passed_over(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 99
    assert (pixels(read_image(save(tmp_path / "a.png", NOISE, "PNG", exif=exif))) == NOISE).all()


ONE_TAG = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01"  # the orientation, but for its type, count and value


@pytest.mark.parametrize(
    "junk",
    [
        b"Exif\0\0",
        b"Exif\0\0nonsense",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
        ONE_TAG + struct.pack("<HI4sI", 2, 2, b"6", 0),
        ONE_TAG + struct.pack("<HIII", 5, 1, 10_000_000, 0),
        ONE_TAG + struct.pack("<HIII", 4, 2**32 - 1, 8, 8),
        ONE_TAG + struct.pack("<HIII", 77, 1, 6, 0),
    ],
)
def test_broken_exif_does_not_cost_the_photo(tmp_path, junk):
    assert read_image(save(tmp_path / "a.jpg", NOISE, "JPEG", exif=junk)).size == (47, 31)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_truncated_file_is_unreadable(tmp_path, format, part):
    file = save(tmp_path / "a", NOISE, format)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(UnreadableImage):
        read_image(file)


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}, {"subsampling": 0}, {"quality": 5}]
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_that_ends_in_grey_is_not_taken_for_a_cut_one(tmp_path, mode, options):
    """What libjpeg puts in the place of missing data may be the photo's own."""
    grey = np.tile(NOISE, (2, 2, 1))
    grey[16:, 16:] = 128
    Image.fromarray(grey).convert(mode).save(tmp_path / "a.jpg", **options)
    if mode != "CMYK":
        assert abs(pixels(read_image(tmp_path / "a.jpg"))[-1, -1] - 128).max() <= 1
    else:
        assert read_image(tmp_path / "a.jpg").size == (94, 62)


@pytest.mark.parametrize("contents", [b"", b"This is no photo.\n", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_unreadable(tmp_path, contents):
    file = tmp_path / "a.jpg"
    file.write_bytes(contents)
    with pytest.raises(UnreadableImage):
        read_image(file)


def test_the_reason_does_not_name_the_file(tmp_path):
    file = tmp_path / "holiday.jpg"
    file.write_text("This is no photo.")
    with pytest.raises(UnreadableImage, match=r"^is not a JPEG, .* or AVIF image, or it is damaged$"):
        read_image(file)


def test_a_missing_file_is_unreadable(tmp_path):
    with pytest.raises(UnreadableImage, match="does not exist"):
        read_image(tmp_path / "a.jpg")


def test_a_file_that_may_not_be_opened_is_unreadable(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(decode, "open", refuse, raising=False)  # root may open everything
    with pytest.raises(UnreadableImage, match=r"^cannot be opened \(Permission denied\)$"):
        read_image(save(tmp_path / "a.png", NOISE, "PNG"))


def test_a_folder_is_unreadable(tmp_path):
    with pytest.raises(UnreadableImage, match="is a folder"):
        read_image(tmp_path)


@pytest.mark.parametrize("format", ["PPM", "TGA", "ICO", "JPEG2000"])
def test_other_formats_are_refused_whatever_they_are_called(tmp_path, format):
    with pytest.raises(UnreadableImage, match="is not a JPEG"):
        read_image(save(tmp_path / "a.png", NOISE, format))


def png_that_claims(width, height):
    def chunk(kind, contents):
        return struct.pack(">I", len(contents)) + kind + contents + struct.pack(">I", zlib.crc32(kind + contents))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(10_001, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1), (200_000_000, 1)])
def test_an_absurd_size_is_refused_before_anything_is_decoded(tmp_path, monkeypatch, width, height):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("memory for the pixels would be asked for here"))
    file = tmp_path / "a.png"
    file.write_bytes(png_that_claims(width, height))
    with pytest.raises(UnreadableImage, match=r"claims .* than the limit of 89,478,485"):
        read_image(file)


def test_the_limit_itself_is_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "MAX_PIXELS", NOISE.shape[0] * NOISE.shape[1])
    assert read_image(save(tmp_path / "a.png", NOISE, "PNG")).size == (47, 31)
    with pytest.raises(UnreadableImage, match="claims 47×32 pixels"):
        read_image(save(tmp_path / "b.png", np.zeros((32, 47, 3), np.uint8), "PNG"))
