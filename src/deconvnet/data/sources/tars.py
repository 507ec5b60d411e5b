"""Photos in tar files, as ImageNet is handed out. They are read where they lie: nothing is ever unpacked."""

import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
from PIL import Image

from deconvnet.data.decode import MAX_BYTES, UnreadableImage, read_image
from deconvnet.data.image_set import ImageSet
from deconvnet.data.sources.folders import is_image_file
from deconvnet.errors import DeconvnetError
from deconvnet.progress import bar


@dataclass(frozen=True, eq=False, kw_only=True)
class TarImageSet(ImageSet):
    """Photos in the tar file `root`."""

    spans: np.ndarray
    """(n, 2) where in the file each photo begins, and how many bytes it has."""

    def size(self, index: int) -> int:
        return int(self.spans[index, 1])

    def file(self, index: int) -> Path:
        return self.root

    def read(self, index: int) -> Image.Image:
        begin, size = self.spans[index].tolist()
        try:
            with self.root.open("rb") as file:
                file.seek(begin)
                content = file.read(min(size, MAX_BYTES + 1))
        except OSError as error:
            raise UnreadableImage(f"cannot be read ({error.strerror or error})") from None
        return read_image(content)


def images_in_tar(file: Path, progress: bool = False) -> TarImageSet:
    """The photos in a tar file by their bare names, for its folders do not matter; those of a tar file in it, which stands
    for a class, as `CLASS/NAME`.

    Raises `DeconvnetError` if the file is damaged, or if it or a tar file in it holds no photo.
    """
    spans: dict[str, tuple[int, int]] = {}
    ignored: list[str] = []

    def add(member: tarfile.TarInfo, folder: str, begin: int) -> None:
        path = folder + _bare(member)
        if not member.isdir() and not _bare(member).startswith(".") and _bare(member):
            if _is_file(member) and is_image_file(path):
                spans[path] = (begin + member.offset_data, member.size)  # of two alike the last counts, as when unpacking
            else:
                ignored.append(path)

    with _open(file) as opened:
        outer = _whole_tar(opened, str(file))
        with bar(f"listing {file.name}", len(outer.getmembers()), progress) as advance:
            for member in outer.getmembers():
                name, before = _bare(member), len(spans)
                if _is_file(member) and name.endswith(".tar") and not name.startswith("."):
                    with _inside(outer, member) as part:
                        for photo in _whole_tar(part, f"{name}, which is in {file},"):
                            add(photo, f"{name.removesuffix('.tar')}/", member.offset_data)
                    if len(spans) == before:
                        raise DeconvnetError(f"{name}, which is in {file}, holds no photo: download that file again.")
                else:
                    add(member, "", 0)
                advance(1)
    if not spans:
        raise DeconvnetError(f"There is no photo in {file}.")
    paths = tuple(sorted(spans))
    places = np.array([spans[path] for path in paths], dtype=np.int64)
    return TarImageSet(root=file, paths=paths, ignored=tuple(sorted(ignored)), spans=places)


def _open(file: Path) -> IO[bytes]:
    try:
        return file.open("rb")
    except OSError as error:
        raise DeconvnetError(f"{file} cannot be opened ({error.strerror or error}).") from None


def _whole_tar(file: IO[bytes], name: str) -> tarfile.TarFile:
    """A tar file with its members read, to its end: `tarfile` itself takes any nonsense for the end."""
    try:
        tar = tarfile.TarFile(fileobj=file)
        for member in tar:
            if member.size < 0:  # `tarfile` would go round in circles
                raise tarfile.ReadError("it has a file of a negative size")
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it stops before its end")
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        raise DeconvnetError(f"{name} is not a whole tar file ({error}): download or copy it again.") from None
    return tar


def _inside(outer: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    found = outer.extractfile(member)
    assert found is not None  # for it is a file
    return found


def _is_file(member: tarfile.TarInfo) -> bool:
    return member.isreg() and not member.issparse()


def _bare(member: tarfile.TarInfo) -> str:
    return PurePosixPath(member.name).name
