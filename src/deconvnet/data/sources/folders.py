"""A set of photos on disk: a folder, flat or with one level of class folders, or a packed set."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from deconvnet.data.image_set import ImageSet
from deconvnet.data.packed import MANIFEST, is_packed, open_packed
from deconvnet.errors import DeconvnetError

#: Endings of files taken for photos, in any case.
SUFFIXES = frozenset(".jpg .jpeg .jpe .jfif .png .webp .bmp .gif .tif .tiff .avif".split())

_ARCHIVES = frozenset(".zip .tar .gz .tgz .bz2 .tbz .tbz2 .xz .txz .zst .7z .rar".split())
_OTHER_CAMERA_FILES = frozenset(".heic .heif .hif .jxl .jp2 .psd .dng .cr2 .cr3 .nef .arw .raf .orf .rw2".split())


def find_images(source: Path | str | Iterable[Path | str] | ImageSet) -> ImageSet:
    """Photos in a folder, flat or one level of class folders, in a packed set, or in a list of files; ordered by relative
    path.

    Names alone decide, so that whatever is called like a photo and cannot be read is skipped by name later. Hidden files
    are passed over. Raises `DeconvnetError` if the folder does not exist, cannot be opened or holds no photo.
    """
    if isinstance(source, ImageSet):
        return source
    if not isinstance(source, Path | str):
        return _listed([Path(path) for path in source])
    root = Path(source)
    if is_packed(root):
        return open_packed(root)
    try:
        folders, names = _contents(root)
    except FileNotFoundError:
        raise DeconvnetError(f"There is no folder {root}: pass a folder of photos.") from None
    except NotADirectoryError:
        raise DeconvnetError(f"{root} is {_what(root)}") from None
    except OSError as error:
        raise DeconvnetError(f"The folder {root} cannot be opened ({error.strerror or error}).") from None
    closed = []
    for folder in folders:
        try:
            inside = _contents(root / folder)[1]
            if "atlas.json" in inside or MANIFEST in inside:  # made of these photos, and left among them
                closed.append(f"{folder}/")
            else:
                names += [f"{folder}/{name}" for name in inside]
        except OSError:  # such as a drive's lost+found
            closed.append(f"{folder}/")
    paths = tuple(sorted(name for name in names if is_image_file(name)))
    ignored = tuple(sorted([name for name in names if not is_image_file(name)] + closed))
    if not paths:
        raise DeconvnetError(f"There is no photo in {root} or in its folders ({_hint(root, ignored)}).")
    return ImageSet(root, paths, ignored)


def is_image_file(name: str) -> bool:
    """Whether a file is taken for a photo, by its name."""
    return _suffix(name) in SUFFIXES


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _contents(folder: Path) -> tuple[list[str], list[str]]:
    """The names of a folder's folders and of all else in it, without the hidden ones."""
    folders: list[str] = []
    others: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                # `is_dir` alone raises on links that lead in a circle.
                is_folder = os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()
                (folders if is_folder else others).append(entry.name)
    return folders, others


def _what(file: Path) -> str:
    """What a file is that was passed for a folder, and what to pass."""
    if _suffix(file.name) in _ARCHIVES:
        return "an archive: unpack it and pass the folder of photos that comes out."
    if is_image_file(file.name):
        return "one photo: pass the folder that it lies in."
    return "a file, not a folder: pass the folder that the photos lie in."


def _hint(root: Path, ignored: Sequence[str]) -> str:
    """What to do about a folder that holds no photo."""
    if sets := [root / name for name in ignored if name.endswith("/") and is_packed(root / name)]:
        return f"it holds packed sets, so pass {sets[-1]}"  # val rather than train
    for folder, folders, names in os.walk(root):
        in_atlas = "atlas.json" in names
        folders[:] = [] if in_atlas else sorted(name for name in folders if not name.startswith("."))
        if not in_atlas and Path(folder) != root and any(is_image_file(name) and not name.startswith(".") for name in names):
            deeper = Path(folder).parent
            if deeper.name == "train" and deeper.with_name("val").is_dir():
                deeper = deeper.with_name("val")  # as with packed sets
            return f"photos lie deeper, so pass {deeper}"
    if packed := [name for name in ignored if _suffix(name) in _ARCHIVES]:
        return f"unpack {_first(packed)} and pass the folder that comes out"
    if others := [name for name in ignored if _suffix(name) in _OTHER_CAMERA_FILES]:
        return f"convert {_first(others)} to JPEG"
    return f"it takes {', '.join(sorted(SUFFIXES))}"


def _first(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _listed(files: list[Path]) -> ImageSet:
    missing = [file for file in files if not file.is_file()]
    if missing or not files:
        if not missing:
            raise DeconvnetError("The list of photos is empty.")
        is_folder = missing[0].is_dir()
        raise DeconvnetError(f"{missing[0]} is a folder: pass photos." if is_folder else f"There is no file {missing[0]}.")
    files = [file.absolute() for file in files]
    root = files[0].parent
    while not all(file.is_relative_to(root) for file in files):
        if root == root.parent:
            raise DeconvnetError("The photos lie on different drives: pass those of one drive at a time.")
        root = root.parent
    return ImageSet(root, tuple(sorted({file.relative_to(root).as_posix() for file in files})))
