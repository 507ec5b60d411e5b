"""Decode an image file to RGB; damaged and absurdly large files are refused before they cost memory."""

import io
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageChops, UnidentifiedImageError
from PIL.Image import Transpose
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, TiffImageFile

from deconvnet.errors import DeconvnetError

#: File formats that are opened; the content decides, not the file's name.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")

#: Largest number of pixels in a header that is decoded: the limit above which Pillow warns.
MAX_PIXELS = 89_478_485

#: Longest side in a header that is decoded: that of a JPEG.
MAX_SIDE = 65_535

#: Largest file that is decoded.
MAX_BYTES = 2**30

#: Most scans of a JPEG that is decoded. Progressive ones have about ten; each is another pass over all pixels.
MAX_SCANS = 64

#: EXIF orientation → the operation that makes the image upright.
_EXIF_TRANSPOSES = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


class UnreadableImage(DeconvnetError):
    """An image cannot be decoded. The message is the reason, without the file's name."""


def read_image(source: Path | str | bytes) -> Image.Image:
    """Decode a JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF file to an RGB image, upright by its EXIF orientation.

    `source` is the file's path or its content.

    Greyscale becomes three equal channels, transparency white, 16 bits the upper 8, CMYK plain RGB; of an animation or
    several pages the first is read. Colour profiles are ignored, as is usual in training. Thread-safe.

    Raises `UnreadableImage` with the reason if the file cannot be decoded to its end, or exceeds `MAX_PIXELS`, `MAX_SIDE`,
    `MAX_BYTES` or `MAX_SCANS`.
    """
    try:
        with _open(source) as file, Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise UnreadableImage(f"claims {width}×{height} pixels, more than the limit of {MAX_PIXELS:,}")
            if max(width, height) > MAX_SIDE:
                raise UnreadableImage(f"claims {width}×{height} pixels, more than the limit of {MAX_SIDE:,} to a side")
            if image.format in ("JPEG", "MPO"):
                _check_scans(file)
            image.load()
            if image.format in ("JPEG", "MPO") and _is_truncated(image, file):
                raise UnreadableImage("is damaged: its data stop before its picture is complete")
            return _upright(_to_rgb(image), image)
    except (UnreadableImage, MemoryError):
        raise
    except UnidentifiedImageError:
        raise UnreadableImage("is not a JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF image, or it is damaged") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableImage(f"claims more pixels than the limit of {MAX_PIXELS:,}") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error and more on damaged files
        raise UnreadableImage(f"cannot be decoded ({str(error) or type(error).__name__})") from None


def _open(source: Path | str | bytes) -> BinaryIO:
    """Open a regular file that is not empty. Pipes, which would block, and devices are never opened."""
    if isinstance(source, bytes):
        _check_size(len(source))
        return io.BytesIO(source)
    try:
        status = os.stat(source)
        if stat.S_ISDIR(status.st_mode):
            raise UnreadableImage("is a folder")
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImage("is a pipe, a socket or a device and not a file")
        _check_size(status.st_size)
        return open(source, "rb")
    except FileNotFoundError:
        raise UnreadableImage("is a link to nothing" if os.path.islink(source) else "does not exist") from None
    except OSError as error:
        raise UnreadableImage(f"cannot be opened ({error.strerror or error})") from None


def _check_scans(file: BinaryIO) -> None:
    file.seek(0)
    scans = file.read().count(b"\xff\xda")
    if scans > MAX_SCANS:
        raise UnreadableImage(f"has {scans:,} scans, more than the limit of {MAX_SCANS}")


def _check_size(num_bytes: int) -> None:
    if num_bytes == 0:
        raise UnreadableImage("is empty")
    if num_bytes > MAX_BYTES:
        raise UnreadableImage(f"is {num_bytes:,} bytes long, more than the limit of {MAX_BYTES:,}")


def _to_rgb(image: Image.Image) -> Image.Image:
    """A decoded image in 8-bit RGB, transparency over white as in a viewer."""
    if image.mode.startswith("I") or image.mode == "F":
        return _to_eight_bits(image).convert("RGB")
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        image = ImageChops.invert(image)  # only Adobe stores ink inverted, but Pillow inverts every CMYK JPEG
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """The upper eight bits of deep greyscale, which `convert` would clip at 255; floating point goes from 0 to 1."""
    values = np.asarray(image)
    if image.mode == "F":
        if not ((values >= 0) & (values <= 1)).all():  # also catches NaN
            raise UnreadableImage("holds floating-point values that are not between 0 (black) and 1 (white)")
        return Image.fromarray((values * 255).round().astype(np.uint8))
    if image.mode == "I":
        raise UnreadableImage("holds whole numbers of which it is not known what white is: save it with 8 or 16 bits")
    bits, black_is_zero = 16, True
    if isinstance(image, TiffImageFile):
        bits, black_is_zero = image.tag_v2.get(BITSPERSAMPLE, (16,))[0], image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) != 0
    shifted = (values >> (bits - 8)).astype(np.uint8)
    return Image.fromarray(shifted if black_is_zero else 255 - shifted)


def _upright(rgb: Image.Image, image: Image.Image) -> Image.Image:
    """`rgb` transposed by the EXIF orientation of `image`, from which it was made."""
    try:
        transpose = _EXIF_TRANSPOSES.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # invalid EXIF does not make an image unreadable
        transpose = None
    return rgb if transpose is None else rgb.transpose(transpose)


#: Bytes of all values, after zeros that an arithmetic decoder may read ahead.
_PADDING = bytes(8) + bytes(range(1, 255))

_JPEG_MARKER = re.compile(rb"\xff+([\x01-\xfe])")
_JPEG_END = b"\xff\xd9"


def _is_truncated(image: Image.Image, file: BinaryIO) -> bool:
    """Whether a JPEG's data, decoded without an error, end before its last pixel.

    They do if the end marker is missing, as when the rest of a download is zeros. If the marker is there but too early,
    libjpeg silently fills up with mid-grey. So if the last pixel is mid-grey, bytes are inserted before the marker and the
    file decoded again: they change the pixels only if data were missing.
    """
    file.seek(0)
    data = file.read()
    end = data.find(_JPEG_END, _first_scan_offset(data))
    if end < 0:
        return True
    last_pixel = np.asarray(image.crop((image.width - 1, image.height - 1, image.width, image.height)))
    if ((last_pixel < 127) | (last_pixel > 128)).any():
        return False
    with Image.open(io.BytesIO(data[:end] + _PADDING + data[end:]), formats=("JPEG",)) as padded:
        return padded.tobytes() != image.tobytes()


def _first_scan_offset(data: bytes) -> int:
    """Offset of a JPEG's first scan. The segments before it may hold a whole JPEG, the thumbnail."""
    offset = 2
    while marker := _JPEG_MARKER.search(data, offset):
        offset = marker.end()
        if marker[1] == b"\xda":
            break
        offset += int.from_bytes(data[offset : offset + 2])
    return offset
