"""ImageNet 2012's development kit, which says what the photos for validation show."""

import io
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from PIL import Image

from deconvnet.data.image_set import ImageSet
from deconvnet.errors import DeconvnetError

#: What the kit is called: as it is handed out, and unpacked.
DEVKIT = ("ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_devkit_t12")

_META, _TRUTH = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"
_PHOTO = re.compile(r"ILSVRC2012_val_(\d{8})\.\w+")


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledImageSet(ImageSet):
    """Photos that lie in no class folders, in another order and with paths `CLASS/NAME`."""

    flat: ImageSet
    order: tuple[int, ...]
    """Each photo's index in `flat`."""

    def size(self, index: int) -> int:
        return self.flat.size(self.order[index])

    def file(self, index: int) -> Path:
        return self.flat.file(self.order[index])

    def read(self, index: int) -> Image.Image:
        return self.flat.read(self.order[index])


def are_validation_images(image_set: ImageSet) -> bool:
    """Whether photos lie in no class folders and are called as ImageNet 2012's for validation."""
    return not image_set.classes and _PHOTO.fullmatch(image_set.paths[0]) is not None


@dataclass(frozen=True)
class Devkit:
    file: Path
    classes: dict[int, str]
    """The WordNet id of each ILSVRC2012_ID. (These numbers do not follow the order of WordNet ids, as outputs do.)"""
    truth: tuple[int, ...]
    """The ILSVRC2012_ID of what each photo for validation shows: entry n is for ILSVRC2012_val_0000000(n + 1)."""

    @classmethod
    def find(cls, *folders: Path) -> Self | None:
        """The kit that lies in one of these folders, packed or unpacked. Raises `DeconvnetError` if it is damaged."""
        for file in (folder / name for folder in folders for name in DEVKIT):
            if file.exists():
                return cls.read(file)
        return None

    @classmethod
    def read(cls, file: Path) -> Self:
        import scipy.io  # only here, as it takes long to import

        try:
            meta, truth = _contents(file)
            synsets = scipy.io.loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
            # Those with children are no classes but what classes have in common.
            classes = {int(s["ILSVRC2012_ID"]): str(s["WNID"]) for s in synsets if not int(s["num_children"])}
            kit = cls(file, classes, tuple(int(line) for line in truth.split()))
            if not set(kit.truth) <= kit.classes.keys():
                raise ValueError("a photo shows none of its classes")
        except Exception as error:  # SciPy raises many kinds on broken files, as Pillow does
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise DeconvnetError(f"{file} is not ImageNet 2012's development kit ({reason}): download it again.") from None
        return kit

    def label(self, image_set: ImageSet) -> ImageSet:
        """Validation `image_set` with the class folders that the kit says. Raises `DeconvnetError` if they are not those."""
        if len(image_set) != len(self.truth):
            raise DeconvnetError(
                f"{image_set.root} has {len(image_set):,} photos, but {self.file} says what {len(self.truth):,} show: make "
                "the photos complete, as they are matched by number."
            )
        numbers = [int(match[1]) if (match := _PHOTO.fullmatch(name)) else 0 for name in image_set.paths]
        if set(numbers) != set(range(1, len(numbers) + 1)):
            raise DeconvnetError(
                f"{image_set.root} should have one photo of each number from 1 to {len(numbers)}, called "
                "ILSVRC2012_val_00000001.JPEG and so on: make it complete, and remove others."
            )
        found = {
            f"{self.classes[self.truth[number - 1]]}/{name}": index
            for index, (name, number) in enumerate(zip(image_set.paths, numbers, strict=True))
        }
        paths = tuple(sorted(found))
        order = tuple(found[path] for path in paths)
        return LabelledImageSet(root=image_set.root, paths=paths, ignored=image_set.ignored, flat=image_set, order=order)

    def check_classes(self, image_set: ImageSet) -> None:
        """Raise `DeconvnetError` if training `image_set` are not of the kit's classes."""
        wanted, found = set(self.classes.values()), set(image_set.classes)
        if wanted != found:
            missing, unknown = sorted(wanted - found), sorted(found - wanted)
            such = f"{missing[0]} is missing" if missing else f"{unknown[0]} is not among them"
            raise DeconvnetError(
                f"{image_set.root} has {len(found):,} classes, but {self.file} has {len(wanted):,}: {such}."
            )


def _contents(file: Path) -> tuple[bytes, bytes]:
    """Of meta.mat and of the ground truth."""
    if file.is_dir():
        return (file / _META).read_bytes(), (file / _TRUTH).read_bytes()
    with tarfile.open(file, "r:gz") as tar:
        found = {
            wanted: content.read()
            for member in tar
            for wanted in (_META, _TRUTH)
            if f"/{member.name}".endswith(f"/{wanted}") and (content := tar.extractfile(member))
        }
    return found[_META], found[_TRUTH]
