"""ImageNet 2012's development kit: the classes of its validation images."""

import io
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from PIL import Image

from deconvnet.data.image_set import ImageSet
from deconvnet.errors import DeconvnetError

#: Names of the kit: as it is distributed, and unpacked.
DEVKIT_NAMES = ("ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_devkit_t12")

_META, _GROUND_TRUTH = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"
_VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.\w+")


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledImageSet(ImageSet):
    """The images of a set without class folders, in another order and with paths `CLASS/NAME`."""

    unlabelled: ImageSet
    indices: tuple[int, ...]
    """Each image's index in `unlabelled`."""

    def num_bytes(self, index: int) -> int:
        return self.unlabelled.num_bytes(self.indices[index])

    def file(self, index: int) -> Path:
        return self.unlabelled.file(self.indices[index])

    def read(self, index: int) -> Image.Image:
        return self.unlabelled.read(self.indices[index])


def is_validation_set(image_set: ImageSet) -> bool:
    """Whether the images are in no class folders and named like ImageNet 2012's validation images."""
    return not image_set.classes and _VALIDATION_NAME.fullmatch(image_set.paths[0]) is not None


@dataclass(frozen=True)
class Devkit:
    """The development kit's classes and ground truth."""

    file: Path
    classes: dict[int, str]
    """ILSVRC2012_ID → WordNet id. (Unlike outputs of networks, these numbers are not in the order of WordNet ids.)"""
    ground_truth: tuple[int, ...]
    """ILSVRC2012_ID of each validation image's class; entry n is for image number n + 1."""

    @classmethod
    def find(cls, *folders: Path) -> Self | None:
        """The kit in one of these folders, packed or unpacked. Raises `DeconvnetError` if it is damaged."""
        for file in (folder / name for folder in folders for name in DEVKIT_NAMES):
            if file.exists():
                return cls.read(file)
        return None

    @classmethod
    def read(cls, file: Path) -> Self:
        """The kit in a tar file or folder. Raises `DeconvnetError` if it is damaged."""
        import scipy.io  # only here, as it takes long to import

        try:
            meta, ground_truth = _read_files(file)
            synsets = scipy.io.loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
            # Synsets with children are not classes but groups of classes.
            classes = {int(s["ILSVRC2012_ID"]): str(s["WNID"]) for s in synsets if not int(s["num_children"])}
            kit = cls(file, classes, tuple(int(line) for line in ground_truth.split()))
            if not set(kit.ground_truth) <= kit.classes.keys():
                raise ValueError("a photo shows none of its classes")
        except Exception as error:  # SciPy raises many kinds on broken files, as Pillow does
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise DeconvnetError(f"{file} is not ImageNet 2012's development kit ({reason}): download it again.") from None
        return kit

    def label(self, image_set: ImageSet) -> ImageSet:
        """The validation images in the class folders of the ground truth.

        Raises `DeconvnetError` unless they are all validation images of the kit.
        """
        if len(image_set) != len(self.ground_truth):
            raise DeconvnetError(
                f"{image_set.root} has {len(image_set):,} photos, but {self.file} says what {len(self.ground_truth):,} "
                "show: make the photos complete, as they are matched by number."
            )
        matches = [_VALIDATION_NAME.fullmatch(name) for name in image_set.paths]
        numbers = [int(match[1]) if match else 0 for match in matches]
        if set(numbers) != set(range(1, len(numbers) + 1)):
            raise DeconvnetError(
                f"{image_set.root} should have one photo of each number from 1 to {len(numbers)}, called "
                "ILSVRC2012_val_00000001.JPEG and so on: make it complete, and remove others."
            )
        index_of_path = {
            f"{self.classes[self.ground_truth[number - 1]]}/{name}": index
            for index, (name, number) in enumerate(zip(image_set.paths, numbers, strict=True))
        }
        paths = tuple(sorted(index_of_path))
        return LabelledImageSet(
            root=image_set.root,
            paths=paths,
            ignored=image_set.ignored,
            unlabelled=image_set,
            indices=tuple(index_of_path[path] for path in paths),
        )

    def check_classes(self, image_set: ImageSet) -> None:
        """Raise `DeconvnetError` unless the classes of the training set are the kit's."""
        kit_classes, classes = set(self.classes.values()), set(image_set.classes)
        if kit_classes != classes:
            missing, unknown = sorted(kit_classes - classes), sorted(classes - kit_classes)
            example = f"{missing[0]} is missing" if missing else f"{unknown[0]} is not among them"
            raise DeconvnetError(
                f"{image_set.root} has {len(classes):,} classes, but {self.file} has {len(kit_classes):,}: {example}."
            )


def _read_files(kit: Path) -> tuple[bytes, bytes]:
    """The contents of meta.mat and of the ground truth, in a folder or tar file."""
    if kit.is_dir():
        return (kit / _META).read_bytes(), (kit / _GROUND_TRUTH).read_bytes()
    with tarfile.open(kit, "r:gz") as tar:
        contents = {
            name: stream.read()
            for member in tar
            for name in (_META, _GROUND_TRUTH)
            if f"/{member.name}".endswith(f"/{name}") and (stream := tar.extractfile(member))
        }
    return contents[_META], contents[_GROUND_TRUTH]
