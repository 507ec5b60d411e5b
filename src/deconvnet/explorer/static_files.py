"""The files of the live page and of atlases' pages, and the pictures in atlases.

An atlas may come from a stranger, and a script in its folder would run as one of this origin. So its pages are made anew,
from its tables, and only pictures are served from its folder.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path

from starlette.responses import FileResponse, Response

from deconvnet.atlas.html import page_files, shared_assets
from deconvnet.errors import DeconvnetError
from deconvnet.explorer.responses import RequestError

_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}

#: Suffixes of the only files that are served from an atlas's folder.
PICTURE_SUFFIXES = (".webp", ".png")


class GeneratedFiles:
    """Files by path, in memory, generated when the first of them is requested."""

    def __init__(self, generate: Callable[[], Mapping[str, bytes]]) -> None:
        """`generate` returns all files by path; it may raise `DeconvnetError`."""
        self._generate = generate
        self._files: Mapping[str, bytes] | None = None
        self._lock = asyncio.Lock()

    async def find(self, path: str) -> Response | None:
        """The file at exactly this path; None if there is none. Raises `RequestError` (500) if `generate` fails."""
        async with self._lock:
            if self._files is None:
                try:
                    self._files = await asyncio.to_thread(self._generate)
                except DeconvnetError as error:
                    raise RequestError(500, str(error)) from None
        content = self._files.get(path)
        if content is None:
            return None
        media_type = _MEDIA_TYPES.get(Path(path).suffix, "application/octet-stream")
        return Response(content, headers={"Cache-Control": "no-cache", "Content-Type": media_type})


def live_page_files() -> GeneratedFiles:
    """The files that only the live page uses."""

    def read() -> dict[str, bytes]:
        folder = resources.files(__package__) / "live"
        return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}

    return GeneratedFiles(read)


def shared_files() -> GeneratedFiles:
    """The files that the live page shares with the pages of atlases."""
    return GeneratedFiles(shared_assets)


def atlas_page_files(folder: Path, siblings: Sequence[str], live_url: str) -> GeneratedFiles:
    """The pages of the atlas in `folder`; see `page_files`."""
    return GeneratedFiles(lambda: page_files(folder, siblings, live_url))


def atlas_picture(folder: Path, path: str) -> Response | None:
    """The picture at `path` in the atlas in `folder`; None if it is no picture or lies elsewhere."""
    names = path.split("/")
    if not path.endswith(PICTURE_SUFFIXES) or any(
        not name or name.startswith(".") or set(name) & set("\\:\0") for name in names
    ):
        return None
    try:
        file = folder.joinpath(*names).resolve()
        if not file.is_relative_to(folder.resolve()) or not file.is_file():
            return None
        return FileResponse(
            file,
            media_type=_MEDIA_TYPES[Path(path).suffix],
            stat_result=file.stat(),
            headers={"Cache-Control": "private, max-age=3600"},
        )
    except (OSError, ValueError, RuntimeError):  # a name that is too long, links in a circle
        return None
