"""A set of photos on disk: a folder, flat or with one level of class folders, in an order that never changes."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from deconvnet.errors import DeconvnetError

#: Endings of files taken for photos, in any case.
SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp"})


@dataclass(frozen=True)
class Photos:
    """Photos in a fixed order; a photo's index in `paths` is its number everywhere else (in hits, in `images.csv`)."""

    root: Path
    paths: tuple[str, ...]
    """Relative to `root`, with forward slashes, ascending."""
    ignored: tuple[str, ...] = ()
    """Files in the folder that are not photos by their name."""

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Each photo's class folder, empty for a photo that lies in no class folder."""
        return tuple(path.rpartition("/")[0] for path in self.paths)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The class folders, ascending."""
        return tuple(sorted(set(self.labels) - {""}))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over relative paths and file sizes: tells two sets apart without reading every photo."""
        digest = hashlib.sha256()
        for path in self.paths:
            digest.update(f"{path}\0{(self.root / path).stat().st_size}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def file(self, index: int) -> Path:
        """Where photo number `index` lies."""
        return self.root / self.paths[index]


def find_photos(source: Path | str | Iterable[Path | str] | Photos) -> Photos:
    """Photos in a folder, flat or one level of class folders, or in a list of files; ordered by relative path.

    Hidden files are passed over. Raises `DeconvnetError` if the folder does not exist or holds no photo.
    """
    if isinstance(source, Photos):
        return source
    if not isinstance(source, Path | str):
        return _listed([Path(path) for path in source])
    root = Path(source)
    if not root.exists():
        raise DeconvnetError(f"There is no folder {root}: pass a folder of photos.")
    if not root.is_dir():
        raise DeconvnetError(f"{root} is a file, not a folder: pass the folder that the photos lie in.")
    files = [file for pattern in ("*", "*/*") for file in root.glob(pattern) if file.is_file()]
    names = sorted(file.relative_to(root).as_posix() for file in files)
    names = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
    paths = tuple(name for name in names if Path(name).suffix.lower() in SUFFIXES)
    if not paths:
        deeper = next((file for file in root.glob("[!.]*/[!.]*/**/*") if file.suffix.lower() in SUFFIXES), None)
        hint = f"photos lie deeper, so pass {deeper.parent.parent}" if deeper else f"it takes {', '.join(sorted(SUFFIXES))}"
        raise DeconvnetError(f"There is no photo in {root} or in its folders ({hint}).")
    return Photos(root, paths, tuple(name for name in names if name not in set(paths)))


def _listed(files: list[Path]) -> Photos:
    missing = [file for file in files if not file.is_file()]
    if missing or not files:
        raise DeconvnetError(f"There is no file {missing[0]}." if missing else "The list of photos is empty.")
    files = [file.absolute() for file in files]
    root = files[0].parent
    while not all(file.is_relative_to(root) for file in files):
        if root == root.parent:
            raise DeconvnetError("The photos lie on different drives: pass those of one drive at a time.")
        root = root.parent
    return Photos(root, tuple(sorted({file.relative_to(root).as_posix() for file in files})))
