"""Any bytes are either a picture or unreadable, soon."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deconvnet.data import UnreadableImage, read_image
from helpers.odd_images import NOISE, cmyk_jpeg, encoded, palette

WHOLE = {
    "JPEG": encoded(NOISE, "JPEG"),
    "progressive JPEG": encoded(NOISE, "JPEG", progressive=True),
    "CMYK JPEG": cmyk_jpeg(adobe=False),
    "MPO": encoded(NOISE, "MPO", save_all=True, append_images=[NOISE.copy()]),
    "PNG": encoded(NOISE, "PNG"),
    "palette PNG": palette(bytes([0, 255])),
    "WebP": encoded(NOISE, "WEBP"),
    "lossless WebP": encoded(NOISE, "WEBP", lossless=True),
    "BMP": encoded(NOISE, "BMP"),
    "GIF": palette(0, "GIF"),
    "TIFF": encoded(NOISE, "TIFF"),
    "LZW TIFF": encoded(NOISE, "TIFF", compression="tiff_lzw"),
    "JPEG TIFF": encoded(NOISE, "TIFF", compression="jpeg"),
    "AVIF": encoded(NOISE, "AVIF"),
}

soon = settings(deadline=timedelta(seconds=20), derandomize=True, database=None)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "a.jpg"


def check(file, contents):
    file.write_bytes(contents)
    try:
        picture = read_image(file)
    except UnreadableImage:
        return None
    assert isinstance(picture, Image.Image)
    assert picture.mode == "RGB"
    assert len(picture.tobytes()) == 3 * picture.width * picture.height
    return picture


@pytest.mark.parametrize("whole", WHOLE.values(), ids=WHOLE)
def test_the_whole_files_are_readable(file, whole):
    assert check(file, whole)


@given(contents=st.binary())
@soon
def test_arbitrary_bytes(file, contents):
    check(file, contents)


@given(data=st.data())
@settings(soon, max_examples=40)
@pytest.mark.parametrize("whole", WHOLE.values(), ids=WHOLE)
def test_files_that_are_cut_or_changed(file, whole, data):
    spoilt = bytearray(whole[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else whole)
    # Most of what matters stands at the beginning.
    places = st.integers(0, max(0, len(spoilt) - 1)) | st.integers(0, min(200, max(0, len(spoilt) - 1)))
    for place, bit in data.draw(st.lists(st.tuples(places, st.integers(0, 7)), max_size=8)) if spoilt else []:
        spoilt[place] ^= 1 << bit
    check(file, bytes(spoilt))
