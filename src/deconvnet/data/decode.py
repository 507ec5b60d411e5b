"""One image file to one RGB picture, refusing what is broken or absurdly large before it costs memory."""

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

#: File formats that are opened, whatever the file is called.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")

#: Images that claim more pixels than this are not decoded. It is the limit from which Pillow itself warns.
MAX_PIXELS = 89_478_485

#: Nor are images that claim a longer side than a JPEG can have …
MAX_SIDE = 65_535

#: … nor files of more bytes than this.
MAX_BYTES = 2**30

#: Nor JPEGs of more scans than this. Progressive ones have about ten; each is one more pass over all pixels.
MAX_SCANS = 64

#: What each EXIF orientation asks for.
_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


class UnreadableImage(DeconvnetError):
    """A file that cannot be shown to a network; the message is the reason, without the file's name."""


def read_image(source: Path | str | bytes) -> Image.Image:
    """Decode one JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF file to an RGB picture, upright as its EXIF orientation says.

    `source` is where the file lies, or its content as bytes.

    Greyscale becomes three equal channels, transparency white, 16 bits 8, CMYK its plain RGB; of an animation or of many
    pages the first is taken. Colour profiles are ignored, as they are wherever networks are trained. May be called from
    many threads at once. Raises `UnreadableImage` with the reason if the file cannot be decoded to its end, or claims more
    than `MAX_PIXELS` pixels or a side of more than `MAX_SIDE`, or has more than `MAX_BYTES` or more than `MAX_SCANS` scans.
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
            if image.format in ("JPEG", "MPO") and _stops_short(image, file):
                raise UnreadableImage("is damaged: its data stop before its picture is complete")
            return _upright(_to_rgb(image), image)
    except (UnreadableImage, MemoryError):
        raise
    except UnidentifiedImageError:
        raise UnreadableImage("is not a JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF image, or it is damaged") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableImage(f"claims more pixels than the limit of {MAX_PIXELS:,}") from None
    except Exception as error:  # Pillow's decoders raise many kinds on broken files: OSError, SyntaxError, struct.error …
        raise UnreadableImage(f"cannot be decoded ({str(error) or type(error).__name__})") from None


def _open(source: Path | str | bytes) -> BinaryIO:
    """Open a regular file that is not empty. A pipe would block and a device may do anything: they are not even opened."""
    if isinstance(source, bytes):
        _check_size(len(source))
        return io.BytesIO(source)
    try:
        found = os.stat(source)
        if stat.S_ISDIR(found.st_mode):
            raise UnreadableImage("is a folder")
        if not stat.S_ISREG(found.st_mode):
            raise UnreadableImage("is a pipe, a socket or a device and not a file")
        _check_size(found.st_size)
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


def _check_size(size: int) -> None:
    if size == 0:
        raise UnreadableImage("is empty")
    if size > MAX_BYTES:
        raise UnreadableImage(f"is {size:,} bytes long, more than the limit of {MAX_BYTES:,}")


def _to_rgb(image: Image.Image) -> Image.Image:
    """A decoded image in 8-bit RGB, as a viewer shows it on white paper."""
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bits(image).convert("RGB")
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        image = ImageChops.invert(image)  # only Adobe stores ink inverted; Pillow turns every JPEG's round
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """The upper eight bits of deep greyscale, which `convert` would cut off at 255; floating point goes from 0 to 1."""
    values = np.asarray(image)
    if image.mode == "F":
        if not ((values >= 0) & (values <= 1)).all():  # so is NaN
            raise UnreadableImage("holds floating-point values that are not between 0 (black) and 1 (white)")
        return Image.fromarray((values * 255).round().astype(np.uint8))
    if image.mode == "I":
        raise UnreadableImage("holds whole numbers of which it is not known what white is: save it with 8 or 16 bits")
    bits, black_is_zero = 16, True
    if isinstance(image, TiffImageFile):
        bits, black_is_zero = image.tag_v2.get(BITSPERSAMPLE, (16,))[0], image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) != 0
    shifted = (values >> (bits - 8)).astype(np.uint8)
    return Image.fromarray(shifted if black_is_zero else 255 - shifted)


def _upright(picture: Image.Image, image: Image.Image) -> Image.Image:
    """`picture` turned as the EXIF orientation of the `image` that it came from says."""
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # nonsense in its EXIF does not spoil a photo
        turn = None
    return picture if turn is None else picture.transpose(turn)


#: Some of everything, after a few zeros that arithmetic decoding may read ahead.
_PADDING = bytes(8) + bytes(range(1, 255))

_JPEG_MARKER = re.compile(rb"\xff+([\x01-\xfe])")
_JPEG_END = b"\xff\xd9"


def _stops_short(image: Image.Image, file: BinaryIO) -> bool:
    """Whether the data of a JPEG, which was decoded without an error, end before its picture does.

    They do where the end marker is missing, as when the rest of a download is zeros. Where it is there but comes too soon,
    libjpeg fills up with mid-grey and says nothing. So if the last pixel is mid-grey, bytes are put before the end marker: a
    decoder passes over them if the picture is complete, and takes them for a part of it if it is not.
    """
    file.seek(0)
    data = file.read()
    end = data.find(_JPEG_END, _first_scan(data))
    if end < 0:
        return True
    last = np.asarray(image.crop((image.width - 1, image.height - 1, image.width, image.height)))
    if ((last < 127) | (last > 128)).any():
        return False
    with Image.open(io.BytesIO(data[:end] + _PADDING + data[end:]), formats=("JPEG",)) as padded:
        return padded.tobytes() != image.tobytes()


def _first_scan(data: bytes) -> int:
    """Where the first scan of a JPEG begins; what lies before may hold a whole JPEG, the thumbnail."""
    at = 2
    while marker := _JPEG_MARKER.search(data, at):
        at = marker.end()
        if marker[1] == b"\xda":
            break
        at += int.from_bytes(data[at : at + 2])
    return at
