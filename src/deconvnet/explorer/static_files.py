"""The pages of atlases and of the live page, and the pictures in atlases.

Pages are made here, from an atlas's tables: an atlas may come from a stranger, and a page of its own would be one of this
origin. Of its folder only pictures are served.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from starlette.responses import FileResponse, Response

from deconvnet.atlas.html import page_files, shared_assets
from deconvnet.errors import DeconvnetError
from deconvnet.explorer.responses import Refusal

_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
#: What is served of an atlas's own folder.
PICTURES = (".webp", ".png")


class Pages:
    """Pages by their paths, made when the first of them is asked for; `make` raises `DeconvnetError` if it cannot."""

    def __init__(self, make: Callable[[], Mapping[str, bytes]]) -> None:
        self._make = make
        self._made: Mapping[str, bytes] | None = None
        self._making = asyncio.Lock()

    async def find(self, path: str) -> Response | None:
        """The page at exactly this path; None if there is none. Raises `Refusal` (500) if they cannot be made."""
        async with self._making:
            if self._made is None:
                try:
                    self._made = await asyncio.to_thread(self._make)
                except DeconvnetError as error:
                    raise Refusal(500, str(error)) from None
        content = self._made.get(path)
        if content is None:
            return None
        kind = _KINDS.get(Path(path).suffix, "application/octet-stream")
        return Response(content, headers={"Cache-Control": "no-cache", "Content-Type": kind})


def live_pages() -> Pages:
    """The live page's own files."""
    return Pages(
        lambda: {file.name: file.read_bytes() for file in (files(__package__) / "live").iterdir() if file.is_file()}
    )


def shared_pages() -> Pages:
    """What the live page shares with the pages of atlases."""
    return Pages(shared_assets)


def atlas_pages(folder: Path, beside: Sequence[str], live: str) -> Pages:
    """The pages of an atlas; see `page_files`."""
    return Pages(lambda: page_files(folder, beside, live))


def picture(folder: Path, path: str) -> Response | None:
    """A picture in the atlas in `folder`; None for all that is not one, or lies elsewhere."""
    parts = path.split("/")
    if not path.endswith(PICTURES) or any(not part or part.startswith(".") or set(part) & set("\\:\0") for part in parts):
        return None
    try:
        file = folder.joinpath(*parts).resolve()
        if not file.is_relative_to(folder.resolve()) or not file.is_file():
            return None
        return FileResponse(
            file,
            media_type=_KINDS[Path(path).suffix],
            stat_result=file.stat(),
            headers={"Cache-Control": "private, max-age=3600"},
        )
    except (OSError, ValueError, RuntimeError):  # a name that is too long, links in a circle
        return None
