"""Files and addresses made to do harm."""

import io
import os
import struct
import zlib
from dataclasses import replace

import pytest
from PIL import Image

from deconvnet.atlas.html import page_files
from deconvnet.explorer import uploads
from deconvnet.explorer.static_files import atlas_picture
from helpers.exploring import image_bytes, upload_image

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def png(width, height, data=b""):
    """A PNG that claims to be of this size."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def black_png(width, height):
    """A PNG of this size, all black: a small file for so many pixels."""
    row = bytes(1 + 3 * width)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return png(width, height, data)


def many_scans():
    """A progressive JPEG whose last scan is repeated: each is one more pass over all pixels."""
    encoded = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(encoded, "jpeg", progressive=True)
    content = encoded.getvalue()
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * (81 - content.count(b"\xff\xda")) + b"\xff\xd9"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "This file is empty."),
        (b"hello", "This file is not a JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF image, or it is damaged."),
        (SVG, "This file is not a JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF image, or it is damaged."),
        (png(60_000, 60_000), "This file claims"),
        (black_png(9_500, 9_500), "This file claims 9500×9500 pixels, more than the limit of 89,478,485."),
        (png(100, 100), "This file cannot be decoded"),
        (image_bytes("jpeg", (300, 200))[:4000], "This file "),
        (many_scans(), "This file has 80 scans, more than the limit of 64."),
        (b"%PDF-1.4", "This file is not"),
    ],
    ids=["empty", "text", "svg", "claims", "bomb", "no data", "truncated", "scans", "pdf"],
)
def test_files_that_are_no_photos(client, content, message):
    answer = upload_image(client, content)
    assert (answer.status_code, list(answer.json())) == (422, ["error"])
    assert answer.json()["error"].startswith(message)
    assert answer.json()["error"].endswith(".")
    assert upload_image(client, image_bytes()).status_code == 201


def test_photos_of_odd_shapes(client):
    for size in ((65_000, 1), (1, 65_000), (1, 1)):
        encoded = io.BytesIO()
        Image.new("RGB", size).save(encoded, "png")
        assert upload_image(client, encoded.getvalue()).status_code == 201


def request_head(running_server, *lines):
    lines = (
        "POST /api/photos HTTP/1.1",
        f"Host: 127.0.0.1:{running_server.port}",
        "Content-Type: application/octet-stream",
        *lines,
    )
    return "\r\n".join((*lines, "", "")).encode()


def test_an_announced_length_that_is_too_large(running_server):
    status, answer = running_server.raw(request_head(running_server, "Content-Length: 99999999999", "Connection: close"))
    assert status == 413
    assert b'{"error":"This file is larger than 32 MiB: choose a smaller one."}' in answer


def test_too_much_without_a_length(running_server, monkeypatch):
    monkeypatch.setattr(uploads, "UPLOAD_LIMIT", replace(uploads.UPLOAD_LIMIT, size=100_000))
    chunk = b"8000\r\n" + bytes(0x8000) + b"\r\n"
    assert (
        running_server.raw(request_head(running_server, "Transfer-Encoding: chunked", "Connection: close") + 5 * chunk)[0]
        == 413
    )


def test_never_more_than_the_limit_is_kept(client, monkeypatch):
    largest = []
    monkeypatch.setattr(uploads, "UPLOAD_LIMIT", replace(uploads.UPLOAD_LIMIT, size=100_000))
    monkeypatch.setattr(uploads, "read_image", lambda content: largest.append(len(content)))

    async def body():
        for _ in range(10):
            yield bytes(20_000)

    assert upload_image(client, body()).status_code == 413
    assert largest == []


def test_lengths_that_lie(running_server):
    image = image_bytes()
    # More comes than was announced: what was announced is half a file, and the rest no question.
    answer = running_server.raw(
        request_head(running_server, f"Content-Length: {len(image) // 2}", "Connection: close") + image
    )[1]
    assert answer.startswith(b"HTTP/1.1 422")
    # Less comes than was announced, and then the end.
    with running_server.connect() as connection:
        connection.sendall(request_head(running_server, f"Content-Length: {2 * len(image)}") + image)
    assert running_server.get("/api/networks")[0] == 200
    for length in ("-1", "1e9", "0x10", "+5", "5, 6"):
        assert (
            running_server.raw(request_head(running_server, f"Content-Length: {length}", "Connection: close") + b"12345")[0]
            == 400
        )


def test_a_slow_upload(running_server, monkeypatch):
    monkeypatch.setattr(uploads, "UPLOAD_LIMIT", replace(uploads.UPLOAD_LIMIT, seconds=0.3))
    status, answer = running_server.raw(request_head(running_server, "Content-Length: 1000") + b"a")
    assert status == 408
    assert b"connection: close" in answer.lower()
    assert running_server.get("/api/networks")[0] == 200


NAMES = [
    "..",
    "../..",
    "../atlas.json",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "%2e%2e%2fphotos%2fant%2f00.png",
    "..\\..\\windows.png",
    "..%5c..%5cwindows.png",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "//evil.example/x.png",
    "a%00.png",
    "conv1/0000.webp%00",
    "%ff%fe",
    "C:%5cx.png",
    "." * 300 + ".png",
    "a" * 3000 + ".png",
    "%F0%9F%90%9C",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_in_addresses_are_not_paths(running_server, name, photo_folder):
    token = upload_raw(running_server)
    for target in (
        f"/{name}",
        f"/live/{name}",
        f"/shared/{name}",
        f"/atlas/{name}",
        f"/atlas/{name}/index.html",
        f"/atlas/little-atlas/{name}",
        f"/atlas/little-atlas/conv1/{name}",
        f"/api/photos/{name}/little-atlas",
        f"/api/photos/{token}/{name}",
        f"/api/photos/{token}/little-atlas/layers/{name}/0",
        f"/api/photos/{token}/little-atlas/layers/conv1/{name}",
        f"/api/photos/{token}/little-atlas/layers/conv1/{name}/projection.png",
        f"/api/photos/{token}/little-atlas/layers/conv1/0/projection.png?row={name}&column=0",
    ):
        status, answer = running_server.get(target)
        assert status in (307, 400, 404, 405, 422), (target, answer[:300])
        if status == 307:
            assert b"location: /atlas/little-atlas/index.html\r\n" in answer
        elif status != 400:
            assert b'{"error":' in answer
        assert b"root:" not in answer
        assert b"RIFF" not in answer
        assert b"PNG" not in answer


def upload_raw(running_server):
    image = image_bytes()
    answer = running_server.raw(request_head(running_server, f"Content-Length: {len(image)}", "Connection: close") + image)[
        1
    ]
    return answer.rpartition(b'{"photo":"')[2].partition(b'"')[0].decode()


def test_only_pictures_of_the_atlas_itself_are_served(client, folder, tmp_path):
    (folder / "index.html").write_text("<script>alert('theirs')</script>")
    (folder / "evil.html").write_text("theirs")
    (folder / "evil.js").write_text("theirs")
    (folder / "evil.svg").write_bytes(SVG)
    (folder / ".hidden.png").write_bytes(image_bytes())
    (folder / ".git").mkdir()
    (folder / ".git" / "a.png").write_bytes(image_bytes())
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    secret = tmp_path / "secret.png"
    secret.write_bytes(image_bytes())
    (folder / "link.png").symlink_to(secret)
    (folder / "up").symlink_to(tmp_path)
    (folder / "circle.png").symlink_to(folder / "circle.png")
    (folder / "inside.png").symlink_to(folder / "filters.png")
    (folder / "page.png").write_text("<script>alert('theirs')</script>")
    base = "/atlas/little-atlas/"
    assert client.get(base + "index.html").content == page_files(folder)["index.html"]
    for name in (
        "evil.html evil.js evil.svg .hidden.png .git/a.png folder.png pipe.png link.png up/secret.png circle.png atlas.json "
        "hits.csv classes.npz conv1 conv1/ nothing.png FILTERS.PNG"
    ).split():
        assert client.get(base + name).status_code == 404, name
    assert client.get(base + "inside.png").status_code == 200
    assert client.get(base + "page.png").headers["content-type"] == "image/png"
    assert client.get(base + "page.png").headers["x-content-type-options"] == "nosniff"
    assert atlas_picture(folder, "../secret.png") is None
    assert atlas_picture(folder, str(secret)) is None
    assert atlas_picture(folder, "filters.png") is not None
