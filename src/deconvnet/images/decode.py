"""One image file to one RGB picture, refusing what is broken or absurdly large before it costs memory."""

from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from deconvnet.errors import DeconvnetError

#: File formats that are opened, whatever the file is called.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")

#: Images that claim more pixels than this are not decoded. It is the limit from which Pillow itself warns.
MAX_PIXELS = 89_478_485


class UnreadableImage(DeconvnetError):
    """A file that cannot be shown to a network; the message is the reason, without the file's name."""


def read_image(path: Path | str) -> Image.Image:
    """Decode one JPEG, PNG, WebP or BMP file to an RGB picture, upright as its EXIF orientation says.

    Greyscale becomes three equal channels. Raises `UnreadableImage` with the reason if the file cannot be decoded or
    claims more than `MAX_PIXELS` pixels.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise UnreadableImage(f"claims {width}×{height} pixels, more than the limit of {MAX_PIXELS:,}")
            upright = ImageOps.exif_transpose(image)
            if upright.mode == "I;16":  # 16-bit greyscale: `convert` would cut it off at 255
                upright = upright.point(lambda value: value / 256).convert("L")
            return upright.convert("RGB")
    except UnreadableImage:
        raise
    except UnidentifiedImageError:
        raise UnreadableImage("is not a JPEG, PNG, WebP or BMP image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableImage(f"claims more pixels than the limit of {MAX_PIXELS:,}") from None
    except MemoryError:
        raise
    except FileNotFoundError:
        raise UnreadableImage("does not exist") from None
    except Exception as error:  # Pillow's decoders raise many kinds on broken files: OSError, SyntaxError, struct.error …
        raise UnreadableImage(f"cannot be decoded ({str(error) or type(error).__name__})") from None
