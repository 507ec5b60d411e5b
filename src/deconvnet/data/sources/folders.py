"""Find the images of a folder, flat or with one level of class folders, of a packed set, or of a list of files."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from deconvnet.data.image_set import ImageSet
from deconvnet.data.packed import MANIFEST_FILE, is_packed, open_packed
from deconvnet.errors import DeconvnetError

#: Suffixes of the files that count as images, in any case.
IMAGE_SUFFIXES = frozenset(".jpg .jpeg .jpe .jfif .png .webp .bmp .gif .tif .tiff .avif".split())

# Only for hints in error messages.
_ARCHIVE_SUFFIXES = frozenset(".zip .tar .gz .tgz .bz2 .tbz .tbz2 .xz .txz .zst .7z .rar".split())
_UNSUPPORTED_SUFFIXES = frozenset(".heic .heif .hif .jxl .jp2 .psd .dng .cr2 .cr3 .nef .arw .raf .orf .rw2".split())


def find_images(images: Path | str | Iterable[Path | str] | ImageSet) -> ImageSet:
    """The images of a folder, flat or with one level of class folders, of a packed set, or of a list of files, ordered by
    relative path. An `ImageSet` is returned as it is.

    Only names decide: a file that is named like an image but cannot be read is skipped, by name, when it is read. Hidden
    files are not listed. Raises `DeconvnetError` if the folder does not exist, cannot be opened or holds no image.
    """
    if isinstance(images, ImageSet):
        return images
    if not isinstance(images, Path | str):
        return _from_files([Path(path) for path in images])
    root = Path(images)
    if is_packed(root):
        return open_packed(root)
    try:
        folders, names = _list_folder(root)
    except FileNotFoundError:
        raise DeconvnetError(f"There is no folder {root}: pass a folder of photos.") from None
    except NotADirectoryError:
        raise DeconvnetError(f"{root} is {_file_hint(root)}") from None
    except OSError as error:
        raise DeconvnetError(f"The folder {root} cannot be opened ({error.strerror or error}).") from None
    ignored_folders = []
    for folder in folders:
        try:
            folder_names = _list_folder(root / folder)[1]
            if "atlas.json" in folder_names or MANIFEST_FILE in folder_names:  # made from these images, next to them
                ignored_folders.append(f"{folder}/")
            else:
                names += [f"{folder}/{name}" for name in folder_names]
        except OSError:  # such as a drive's lost+found
            ignored_folders.append(f"{folder}/")
    paths = tuple(sorted(name for name in names if is_image_file(name)))
    ignored = tuple(sorted([name for name in names if not is_image_file(name)] + ignored_folders))
    if not paths:
        raise DeconvnetError(f"There is no photo in {root} or in its folders ({_no_images_hint(root, ignored)}).")
    return ImageSet(root, paths, ignored)


def is_image_file(name: str) -> bool:
    """Whether a file counts as an image, by its name."""
    return _suffix(name) in IMAGE_SUFFIXES


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _list_folder(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the folders in a folder, and of everything else in it; without hidden ones."""
    folders: list[str] = []
    files: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                # `DirEntry.is_dir` raises on circular links.
                is_folder = os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()
                (folders if is_folder else files).append(entry.name)
    return folders, files


def _file_hint(file: Path) -> str:
    """What kind of file was passed instead of a folder, and what to pass."""
    if _suffix(file.name) in _ARCHIVE_SUFFIXES:
        return "an archive: unpack it and pass the folder of photos that comes out."
    if is_image_file(file.name):
        return "one photo: pass the folder that it lies in."
    return "a file, not a folder: pass the folder that the photos lie in."


def _no_images_hint(root: Path, ignored: Sequence[str]) -> str:
    """What to do about a folder that holds no image."""
    if packed_sets := [root / name for name in ignored if name.endswith("/") and is_packed(root / name)]:
        return f"it holds packed sets, so pass {packed_sets[-1]}"  # val rather than train
    for folder, folders, names in os.walk(root):
        is_atlas = "atlas.json" in names
        folders[:] = [] if is_atlas else sorted(name for name in folders if not name.startswith("."))
        if not is_atlas and Path(folder) != root and any(is_image_file(name) and not name.startswith(".") for name in names):
            parent = Path(folder).parent
            if parent.name == "train" and parent.with_name("val").is_dir():
                parent = parent.with_name("val")  # as with packed sets
            return f"photos lie deeper, so pass {parent}"
    if archives := [name for name in ignored if _suffix(name) in _ARCHIVE_SUFFIXES]:
        return f"unpack {_first_of(archives)} and pass the folder that comes out"
    if unsupported := [name for name in ignored if _suffix(name) in _UNSUPPORTED_SUFFIXES]:
        return f"convert {_first_of(unsupported)} to JPEG"
    return f"it takes {', '.join(sorted(IMAGE_SUFFIXES))}"


def _first_of(names: Sequence[str]) -> str:
    """The first name and how many more there are."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _from_files(files: list[Path]) -> ImageSet:
    """Files as a set whose root is the deepest folder that contains them all."""
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
