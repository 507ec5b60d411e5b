"""Images in tar files, as ImageNet is distributed. They are read in place: nothing is ever unpacked."""

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
from deconvnet.progress import progress_bar


@dataclass(frozen=True, eq=False, kw_only=True)
class TarImageSet(ImageSet):
    """The images in the tar file `root`."""

    spans: np.ndarray
    """(n, 2) int64, each image's offset in the file and its size, in bytes."""

    def num_bytes(self, index: int) -> int:
        return int(self.spans[index, 1])

    def file(self, index: int) -> Path:
        return self.root

    def read(self, index: int) -> Image.Image:
        offset, size = self.spans[index].tolist()
        try:
            with self.root.open("rb") as file:
                file.seek(offset)
                content = file.read(min(size, MAX_BYTES + 1))
        except OSError as error:
            raise UnreadableImage(f"cannot be read ({error.strerror or error})") from None
        return read_image(content)


def images_in_tar(file: Path, progress: bool = False) -> TarImageSet:
    """The images in a tar file, by their base names, as its folders do not matter; those in an inner tar file, which stands
    for a class, as `CLASS/NAME`.

    Raises `DeconvnetError` if the file is damaged, or if it or an inner tar file holds no image.
    """
    spans: dict[str, tuple[int, int]] = {}
    ignored: list[str] = []

    def add(member: tarfile.TarInfo, folder: str, tar_offset: int) -> None:
        name = _base_name(member)
        path = folder + name
        if not member.isdir() and not name.startswith(".") and name:
            if _is_file(member) and is_image_file(path):
                # Of two with the same path the last counts, as when unpacking.
                spans[path] = (tar_offset + member.offset_data, member.size)
            else:
                ignored.append(path)

    with _open(file) as stream:
        outer = _read_tar(stream, str(file))
        with progress_bar(f"listing {file.name}", len(outer.getmembers()), progress) as advance:
            for member in outer.getmembers():
                name, count_before = _base_name(member), len(spans)
                if _is_file(member) and name.endswith(".tar") and not name.startswith("."):
                    with _open_member(outer, member) as inner:
                        for inner_member in _read_tar(inner, f"{name}, which is in {file},"):
                            add(inner_member, f"{name.removesuffix('.tar')}/", member.offset_data)
                    if len(spans) == count_before:
                        raise DeconvnetError(f"{name}, which is in {file}, holds no photo: download that file again.")
                else:
                    add(member, "", 0)
                advance(1)
    if not spans:
        raise DeconvnetError(f"There is no photo in {file}.")
    paths = tuple(sorted(spans))
    sorted_spans = np.array([spans[path] for path in paths], dtype=np.int64)
    return TarImageSet(root=file, paths=paths, ignored=tuple(sorted(ignored)), spans=sorted_spans)


def _open(file: Path) -> IO[bytes]:
    try:
        return file.open("rb")
    except OSError as error:
        raise DeconvnetError(f"{file} cannot be opened ({error.strerror or error}).") from None


def _read_tar(file: IO[bytes], name: str) -> tarfile.TarFile:
    """A tar file whose members are all read. `name` is for errors.

    Raises `DeconvnetError` if the file is not complete; `tarfile` takes any invalid block for the end.
    """
    try:
        tar = tarfile.TarFile(fileobj=file)
        for member in tar:
            if member.size < 0:  # `tarfile` would loop forever
                raise tarfile.ReadError("it has a file of a negative size")
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it stops before its end")
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        raise DeconvnetError(f"{name} is not a whole tar file ({error}): download or copy it again.") from None
    return tar


def _open_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = tar.extractfile(member)
    assert stream is not None  # None only for what is not a file
    return stream


def _is_file(member: tarfile.TarInfo) -> bool:
    return member.isreg() and not member.issparse()


def _base_name(member: tarfile.TarInfo) -> str:
    return PurePosixPath(member.name).name
