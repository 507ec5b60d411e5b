"""Odd and broken image files with odd names, each with the expected result; all made here, byte by byte."""

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

RED, GREEN, BLUE, YELLOW = (200, 30, 30), (30, 160, 60), (40, 60, 200), (220, 200, 40)
QUARTERS = (RED, GREEN, BLUE, YELLOW)
"""The image in nearly all readable files: 64×32 pixels, the colours of its quarters in row-major order."""

WHITE = (255, 255, 255)


@dataclass(frozen=True)
class OddImage:
    """One odd file: either its content or the reason why it cannot be read."""

    name: str
    contents: bytes | Callable[[Path], object]
    """The file's content, or a function that creates the file."""
    size: tuple[int, int] = (64, 32)
    quarters: tuple[tuple[int, ...], ...] = QUARTERS
    tolerance: int = 0
    """Largest difference of a colour from that of `quarters`."""
    reason: str = ""
    """Part of the reason in the error; empty for a file that can be read."""

    def write(self, folder: Path) -> None:
        file = folder / self.name
        file.parent.mkdir(parents=True, exist_ok=True)
        if callable(self.contents):
            self.contents(file)
        else:
            file.write_bytes(self.contents)


def quarters(*colours: tuple[int, ...]) -> np.ndarray:
    """(32, 64, channels) uint8."""
    return np.array(colours, np.uint8).reshape(2, 2, -1).repeat(16, 0).repeat(32, 1)


IMAGE = Image.fromarray(quarters(*QUARTERS))
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.copy().save(file, format, **options)  # `save` stores its options in the image
    return file.getvalue()


def exif(orientation: int) -> Image.Exif:
    result = Image.Exif()
    result[0x0112] = orientation
    return result


def chunk(kind: bytes, contents: bytes) -> bytes:
    return struct.pack(">I", len(contents)) + kind + contents + struct.pack(">I", zlib.crc32(kind + contents))


def png(values: np.ndarray, colour_type: int, *chunks: bytes, claims: tuple[int, int] | None = None) -> bytes:
    """`values` (height, width) or (height, width, channels), uint8 or uint16."""
    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", *(claims or (width, height)), values.itemsize * 8, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(f">u{values.itemsize}").tobytes() for row in values)
    parts = chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(values: np.ndarray, photometric: int, bits: int | None = None, **tags: int) -> bytes:
    """One strip of `values` (height, width), in their byte order."""
    order = ">" if values.dtype.byteorder == ">" else "<"
    fields = {
        256: values.shape[1],
        257: values.shape[0],
        258: bits or values.itemsize * 8,
        259: 1,
        262: photometric,
        273: 0,
        277: 1,
        278: values.shape[0],
        279: values.nbytes,
        339: {"u": 1, "i": 2, "f": 3}[values.dtype.kind],
    }
    fields |= {int(tag.removeprefix("tag")): value for tag, value in tags.items()}
    start = 8 + 2 + 12 * len(fields) + 4
    fields[273] = fields[273] or start
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in sorted(fields.items()))
    head = struct.pack(f"{order}2sHI", b"MM" if order == ">" else b"II", 42, 8)
    next_page = 8  # the next page is this one again
    return head + struct.pack(f"{order}H", len(fields)) + entries + struct.pack(f"{order}I", next_page) + values.tobytes()


def bmp(width: int, height: int, compression: int, pixels: bytes, palette: bytes) -> bytes:
    start = 14 + 40 + len(palette)
    head = struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, compression, len(pixels), 0, 0, len(palette) // 4, 0)
    return head + info + palette + pixels


def with_size(jpeg: bytes, height: int, width: int) -> bytes:
    offset = max(jpeg.find(b"\xff\xc0"), jpeg.find(b"\xff\xc2")) + 5
    return jpeg[:offset] + struct.pack(">HH", height, width) + jpeg[offset + 4 :]


def cmyk_jpeg(adobe: bool) -> bytes:
    """As Photoshop writes it, with Adobe's marker and inverted ink, or with neither."""
    ink = IMAGE.convert("CMYK")
    if adobe:
        return encoded(ink, "JPEG", quality=95)
    data = encoded(ImageChops.invert(ink), "JPEG", quality=95)
    offset = data.find(b"\xff\xee")
    return data[:offset] + data[offset + 2 + 14 :]


def ycck_jpeg() -> bytes:
    cyan, magenta, yellow, black = IMAGE.convert("CMYK").split()
    luma_chroma = Image.merge("RGB", (cyan, magenta, yellow)).convert("YCbCr").split()
    stored = Image.merge("CMYK", (*luma_chroma, ImageChops.invert(black)))
    data = bytearray(encoded(ImageChops.invert(stored), "JPEG", quality=95))  # Pillow inverts once more
    data[data.find(b"Adobe") + 11] = 2  # YCCK
    return bytes(data)


def palette(transparent: int | bytes | None = None, format: str = "PNG", **options: object) -> bytes:
    """`IMAGE` with a palette, whose red may be transparent."""
    values = np.arange(4, dtype=np.uint8).reshape(2, 2).repeat(16, 0).repeat(32, 1)
    image = Image.fromarray(values).convert("P")
    image.putpalette([value for colour in QUARTERS for value in colour])
    return encoded(image, format, **options, **({} if transparent is None else {"transparency": transparent}))


def grey(image: Image.Image = IMAGE) -> np.ndarray:
    """(32, 64) uint8."""
    return np.asarray(image.convert("L"))


def shades(values: np.ndarray) -> tuple[tuple[int, ...], ...]:
    return tuple((int(values[row, column]),) * 3 for row in (8, 24) for column in (16, 48))


def deep(values: np.ndarray) -> np.ndarray:
    """In 16 bits, of which the lower eight must not matter."""
    return values.astype(np.uint16) * 256 + 77


def animation(format: str) -> bytes:
    return encoded(IMAGE, format, save_all=True, append_images=[NOISE.resize(IMAGE.size)] * 2, **lossless(format))


def cut(data: bytes) -> bytes:
    """The first 70 % of the data."""
    return data[: len(data) * 7 // 10]


def lossless(format: str) -> dict[str, bool]:
    return {"lossless": True} if format == "WEBP" else {}


def non_utf8_name(bytes_: bytes) -> str:
    """A name that is not UTF-8."""
    return os.fsdecode(bytes_)


def write_too_large_file(file: Path) -> None:
    """Create a sparse file that is a byte too large."""
    with file.open("wb") as stream:
        stream.truncate(2**30 + 1)


def make_socket(file: Path) -> None:
    """Create a socket; relative, as its address must be short."""
    here = Path.cwd()
    os.chdir(file.parent)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(file.name)
    finally:
        os.chdir(here)


def _readable() -> list[OddImage]:
    jpeg = encoded(IMAGE, "JPEG", quality=95)
    rgba = Image.fromarray(quarters((*RED, 0), (*GREEN, 255), (*BLUE, 255), (*YELLOW, 128)))
    rgba_on_white = (WHITE, GREEN, BLUE, tuple(round((c * 128 + 255 * 127) / 255) for c in YELLOW))
    lengthwise = IMAGE.resize((2, 2), Image.Resampling.NEAREST)
    transparent_red = (WHITE, *QUARTERS[1:])
    bits = Image.fromarray(quarters((255,), (0,), (0,), (255,))[:, :, 0]).convert("1")
    black, white = (0, 0, 0), WHITE
    bad_index = np.full((32, 64), 200, np.uint8)
    wide = quarters(*QUARTERS)
    hole = 65535 * (wide[:, :, 0] != RED[0]).astype(np.uint16)
    runs = bytes([32, 2, 32, 3, 0, 0]) * 16 + bytes([32, 0, 32, 1, 0, 0]) * 16 + b"\0\1"
    flat = lengthwise.crop((0, 0, 2, 1)).resize((65_535, 1), Image.Resampling.NEAREST)
    thin = lengthwise.crop((0, 0, 1, 2)).resize((1, 40), Image.Resampling.NEAREST)
    quarters_by_orientation = {
        2: (GREEN, RED, YELLOW, BLUE),
        3: (YELLOW, BLUE, GREEN, RED),
        4: (BLUE, YELLOW, RED, GREEN),
        5: (RED, BLUE, GREEN, YELLOW),
        6: (BLUE, RED, YELLOW, GREEN),
        7: (YELLOW, GREEN, BLUE, RED),
        8: (GREEN, YELLOW, RED, BLUE),
    }
    format_by_orientation = {2: "PNG", 3: "WEBP", 4: "TIFF", 5: "PNG", 6: "WEBP", 7: "TIFF", 8: "AVIF"}
    save_options = {"TIFF": {"compression": "tiff_lzw"}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}, "PNG": {}}
    flat_grey = Image.new("RGB", (64, 32), (128, 128, 128))
    float_grey = (grey() / np.float32(255)).astype("<f4")
    return [
        OddImage("holiday at sea.jpg", jpeg, tolerance=6),
        OddImage("progressive, with commas,.jpg", encoded(IMAGE, "JPEG", quality=95, progressive=True), tolerance=6),
        OddImage("rgb inside.jpg", encoded(IMAGE, "JPEG", quality=95, keep_rgb=True), tolerance=6),
        OddImage("grey 'quoted'.JPG", encoded(IMAGE.convert("L"), "JPEG", quality=95), quarters=shades(grey()), tolerance=6),
        OddImage('cmyk "adobe".jpeg', cmyk_jpeg(adobe=True), tolerance=6),
        OddImage("cmyk\rplain.jpe", cmyk_jpeg(adobe=False), tolerance=6),
        OddImage("ycck\n\ttab.jfif", ycck_jpeg(), tolerance=6),
        OddImage("--garbage-after-the-end.jpg", jpeg + b"garbage \xff\xd9 garbage" * 100, tolerance=6),
        OddImage(
            "nonsense in exif.jpg",
            encoded(IMAGE, "JPEG", quality=95, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff"), tolerance=6,
        ),
        OddImage("orientation 99.jpg", encoded(IMAGE, "JPEG", quality=95, exif=exif(99)), tolerance=6),
        OddImage(
            "turned 6.jpg",
            encoded(IMAGE, "JPEG", quality=95, subsampling=0, exif=exif(6)),
            (32, 64),
            quarters_by_orientation[6],
            tolerance=6,
        ),
        OddImage("no profile.jpg", encoded(IMAGE, "JPEG", quality=95, icc_profile=b"no colour profile"), tolerance=6),
        OddImage("all grey.jpg", encoded(flat_grey, "JPEG"), quarters=((128,) * 3,) * 4),
        OddImage("phone.jpg", encoded(IMAGE, "MPO", quality=95, save_all=True, append_images=[NOISE.copy()]), tolerance=6),
        OddImage("phone broken.jpg", jpeg[:2] + b"\xff\xe2\0\x0cMPF\0II*\0\x08\0" + jpeg[2:], tolerance=6),
        OddImage("\u202eright to left \u05e9\u05dc\u05d5\u05dd.png", palette()),
        OddImage("#50%?&=+;<b>.png", palette(bytes([0, 255, 255])), quarters=transparent_red),
        OddImage("100%25.gif", palette(0, "GIF"), quarters=transparent_red),
        OddImage("interlaced.gif", palette(format="GIF", interlace=1)),
        OddImage("e\u0301 and \u00e9.png", encoded(bits, "PNG"), quarters=(white, black, black, white)),
        OddImage("\u00e9 and e\u0301.png", encoded(rgba.convert("LA"), "PNG"), quarters=_greys_on_white(rgba), tolerance=1),
        OddImage(
            "\U0001f408\u200d\u2b1b \U0001f1eb\U0001f1ee.png",
            encoded(rgba, "PNG"), quarters=rgba_on_white, tolerance=1,
        ),
        OddImage("transparent.webp", encoded(rgba, "WEBP", lossless=True), quarters=rgba_on_white, tolerance=1),
        OddImage("one colour transparent.png", encoded(IMAGE, "PNG", transparency=RED), quarters=transparent_red),
        OddImage("16 bits.png", png(deep(grey()), 0), quarters=shades(grey())),
        OddImage("16 bits and a hole.png", png(deep(grey()), 0, chunk(b"tRNS", b"\x12\x34")), quarters=shades(grey())),
        OddImage("16 bits of colour.png", png(deep(wide), 2)),
        OddImage("16 bits and alpha.png", png(np.dstack([deep(wide), hole]), 6), quarters=transparent_red),
        OddImage("palette too short.png", png(bad_index, 3, chunk(b"PLTE", bytes(9))), quarters=(black,) * 4),
        OddImage("checksum.png", png(quarters(*QUARTERS), 2)[:-16] + b"????" + chunk(b"IEND", b"")),
        OddImage("nonsense in exif.png", png(wide, 2, chunk(b"tEXt", b"Raw profile type exif\0\nexif\n4\nnonsense"))),
        OddImage("moving.gif", animation("GIF"), tolerance=8),
        OddImage("moving.png", animation("PNG")),
        OddImage("moving.webp", animation("WEBP")),
        OddImage("plain.tif", tiff(grey(), 1), quarters=shades(grey())),
        OddImage("packed.TIFF", encoded(IMAGE, "TIFF", compression="tiff_lzw")),
        OddImage("cmyk.tif", encoded(IMAGE.convert("CMYK"), "TIFF"), tolerance=1),
        OddImage("two pages.tif", encoded(IMAGE, "TIFF", save_all=True, append_images=[NOISE.copy()])),
        OddImage("16 bits.tif", tiff(deep(grey()).astype("<u2"), 1), quarters=shades(grey())),
        OddImage("16 bits of a Mac.tif", tiff(deep(grey()).astype(">u2"), 1), quarters=shades(grey())),
        OddImage("16 bits, white first.tif", tiff(65535 - deep(grey()).astype("<u2"), 0), quarters=shades(grey())),
        OddImage("floating.tif", tiff(float_grey, 1), quarters=shades(grey())),
        *(
            OddImage(
                f"turned {orientation} \u65e5\u672c.{format.lower()}",
                encoded(IMAGE, format, exif=exif(orientation), **save_options.get(format, lossless(format))),
                (64, 32) if orientation < 5 else (32, 64),
                quarters_by_orientation[orientation],
                tolerance=3 if format == "AVIF" else 0,
            )
            for orientation, format in format_by_orientation.items()
        ),
        OddImage("plain.bmp", encoded(IMAGE, "BMP")),
        OddImage("runs.bmp", bmp(64, 32, 1, runs, _bmp_palette())),
        OddImage("small.avif", encoded(IMAGE, "AVIF", quality=95), tolerance=8),
        OddImage("png in truth.jpg", encoded(IMAGE, "PNG")),
        OddImage("jpeg in truth.gif", jpeg, tolerance=6),
        OddImage("one pixel.png", encoded(Image.new("RGB", (1, 1), RED), "PNG"), (1, 1), (RED,) * 4),
        OddImage("one wide.png", encoded(thin, "PNG"), (1, 40), (RED, RED, BLUE, BLUE)),
        OddImage(
            "one high.jpg",
            encoded(Image.new("RGB", (500, 1), RED), "JPEG", quality=95), (500, 1), (RED,) * 4, tolerance=6,
        ),
        OddImage("the longest.png", encoded(flat, "PNG"), (65_535, 1), (RED, GREEN, RED, GREEN)),
        OddImage("long " + "\u00e4" * 120 + ".png", encoded(IMAGE, "PNG")),
        OddImage(non_utf8_name(b"not utf-8 \xff\xfe\x80.png"), encoded(IMAGE, "PNG")),
        OddImage(non_utf8_name(b"cl\xe4ss, \"one\"\n/x.png"), encoded(IMAGE, "PNG")),
        OddImage("folder.jpg/x.png", encoded(IMAGE, "PNG")),
        OddImage("link.png", lambda file: file.symlink_to("folder.jpg/x.png")),
    ]  # fmt: skip


def _greys_on_white(rgba: Image.Image) -> tuple[tuple[int, ...], ...]:
    values, alpha = (np.asarray(band).astype(float) for band in rgba.convert("LA").split())
    return shades(np.round((values * alpha + 255 * (255 - alpha)) / 255))


def _bmp_palette() -> bytes:
    return b"".join(bytes([*reversed(colour), 0]) for colour in QUARTERS)


def _broken() -> list[OddImage]:
    jpeg, progressive = encoded(NOISE, "JPEG"), encoded(NOISE, "JPEG", progressive=True)
    complete_png = encoded(NOISE, "PNG")
    flipped = bytearray(complete_png)
    flipped[len(complete_png) // 2] ^= 1
    values = np.zeros((8, 8), np.uint8)
    no_frame = b"GIF89a" + struct.pack("<HHBBB", 5, 5, 0x80, 0, 0) + bytes(6) + b";"
    short_runs = bmp(64, 32, 1, bytes([64, 1, 0, 0]) * 20 + b"\0\1", _bmp_palette())
    no_image = "is not a JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF image, or it is damaged"
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(20_000_000), 9))
    lzw = encoded(NOISE, "TIFF", compression="tiff_lzw")
    thumbnailed = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(jpeg) + 8) + b"Exif\0\0" + jpeg + jpeg[2:]
    end = b"\xff\xd9"
    stops = "stop before its picture is complete"
    return [
        OddImage("nothing.jpg", b"", reason="is empty"),
        OddImage("text.jpg", b"This is no photo.\n", reason=no_image),
        OddImage("error page.jpg", b"<!doctype html><title>404 Not Found</title>", reason=no_image),
        OddImage("print.jpg", b"%PDF-1.7\n", reason=no_image),
        OddImage("packed.jpg", b"PK\x03\x04" + bytes(100), reason=no_image),
        OddImage("iphone.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), reason=no_image),
        OddImage("\x1b[31mred\x07.jpg", cut(jpeg), reason="truncated"),
        OddImage("without its end.jpg", jpeg[:-2], reason="truncated"),
        OddImage("zeros\nfrom here.jpg", cut(jpeg) + bytes(3000), reason=stops),
        OddImage("with a thumbnail, zeros.jpg", cut(thumbnailed) + bytes(9000), reason=stops),
        OddImage("large.jpg", write_too_large_file, reason="more than the limit of 1,073,741,824"),
        OddImage("cut in its header.jpg", jpeg[:100], reason="Truncated File Read"),
        OddImage("progressive cut.jpg", cut(progressive), reason="truncated"),
        OddImage("cut and closed.jpg", cut(jpeg) + end, reason=stops),
        OddImage("cut, closed, grey.jpg", cut(encoded(NOISE.convert("L"), "JPEG")) + end, reason=stops),
        OddImage("cut, closed, cmyk.jpg", cut(encoded(NOISE.convert("CMYK"), "JPEG")) + end, reason=stops),
        OddImage("claims twice its height.jpg", with_size(jpeg, 128, 64), reason=stops),
        OddImage("claims twice its width.jpg", with_size(progressive, 64, 128), reason=stops),
        OddImage("claims no height.jpg", with_size(jpeg, 0, 64), reason=no_image),
        OddImage("claims 12 bits.jpg", jpeg.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), reason=no_image),
        OddImage("cut.png", cut(encoded(NOISE, "PNG")), reason="truncated"),
        OddImage("cut.webp", cut(encoded(NOISE, "WEBP")), reason="cannot be decoded"),
        OddImage("cut.bmp", cut(encoded(NOISE, "BMP")), reason="truncated"),
        OddImage("cut.avif", cut(encoded(NOISE, "AVIF")), reason=no_image),
        OddImage("cut.tif", cut(encoded(NOISE, "TIFF")), reason="truncated"),
        OddImage("cut.gif", cut(encoded(NOISE.quantize(64), "GIF")), reason="truncated"),
        OddImage("packed and cut.tif", cut(lzw), reason=no_image),
        OddImage(non_utf8_name(b"\xe9t\xe9/damaged \xff.png"), bytes(flipped), reason="broken data stream"),
        OddImage("headless.png", complete_png[:20] + b"????" + complete_png[24:], reason=no_image),
        OddImage("signature only.png", complete_png[:8], reason=no_image),
        OddImage(
            "bomb.png",
            png(values, 0, claims=(60_000, 60_000)), reason="claims more pixels than the limit of 89,478,485",
        ),
        OddImage("bomb too.png", png(values, 0, claims=(10_000, 10_000)), reason="claims 10000×10000 pixels"),
        OddImage("too long.png", png(values, 0, claims=(65_536, 1)), reason="more than the limit of 65,535 to a side"),
        OddImage("bomb of text.png", png(values, 0, bomb), reason="Decompressed data too large"),
        OddImage("no frame.gif", no_frame, reason=no_image),
        OddImage("huge.bmp", bmp(2**31 - 1, 2**31 - 1, 0, b"", b""), reason="claims more pixels"),
        OddImage("runs that end early.bmp", short_runs, reason="cannot be decoded"),
        OddImage("strip outside.tif", tiff(values, 1, tag273=10_000_000), reason="truncated"),
        OddImage("whole numbers.tif", tiff(np.zeros((8, 8), "<i4"), 1), reason="not known what white is"),
        OddImage("beyond white.tif", tiff(np.full((8, 8), 255, "<f4"), 1), reason="not between 0 (black) and 1 (white)"),
        OddImage("not a number.tif", tiff(np.full((8, 8), np.nan, "<f4"), 1), reason="not between 0 (black) and 1 (white)"),
        OddImage("double.tif", tiff(np.zeros((8, 8), "<f8"), 1), reason=no_image),
        OddImage("pipe.jpg", os.mkfifo, reason="is a pipe, a socket or a device"),
        OddImage("socket.jpg", make_socket, reason="is a pipe, a socket or a device"),
        OddImage("endless.jpg", lambda file: file.symlink_to("/dev/zero"), reason="is a pipe, a socket or a device"),
        OddImage("to nothing.jpg", lambda file: file.symlink_to("nowhere"), reason="is a link to nothing"),
        OddImage("circle.jpg", lambda file: file.symlink_to(file.name), reason="Too many levels of symbolic links"),
    ]  # fmt: skip


@cache
def odd_images() -> tuple[OddImage, ...]:
    """All odd files."""
    return (*_readable(), *_broken())
