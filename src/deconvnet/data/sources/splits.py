"""Find the sets of a folder that `deconvnet pack` reads: for training and validation, or a single one."""

from pathlib import Path

from deconvnet.data.image_set import ImageSet, require_same_classes
from deconvnet.data.packed import PackedImageSet
from deconvnet.data.sources.devkit import DEVKIT_NAMES, Devkit, is_validation_set
from deconvnet.data.sources.folders import find_images
from deconvnet.data.sources.tars import images_in_tar
from deconvnet.errors import DeconvnetError, UsageError

#: ImageNet 2012's tar files, for training of one tar file per class.
_TARS = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}


def find_splits(images: Path | str, progress: bool = False) -> dict[str, ImageSet]:
    """The sets "train" and "val" of a folder that has both, as folders or as ImageNet 2012's tar files; otherwise one set,
    named "", of a folder of images or of one of those tar files.

    Validation images outside of class folders get their classes from ImageNet's development kit, packed or unpacked, next
    to them.

    Raises `DeconvnetError` if the kit is missing or does not fit the images, if the classes of training and validation
    differ, or if a file is damaged; `UsageError` if the images are packed already.
    """
    root = Path(images)
    locations = {split: _find_split(root, split) for split in _TARS}
    train, val = locations["train"], locations["val"]
    if train and val:
        kit = Devkit.find(root)
        sets = {"train": _read(train, kit, progress), "val": _read(val, kit, progress)}
        require_same_classes(sets["train"], sets["val"])
        if kit:
            kit.check_classes(sets["train"])
        return sets
    for split, location in locations.items():
        if location and location.is_file():
            (missing,) = locations.keys() - {split}
            raise DeconvnetError(
                f"Beside {location} there is neither {missing}/ nor {_TARS[missing]}: put it there, or pass the one tar "
                "file."
            )
    kit = Devkit.find(root, root.parent)
    image_set = _read(root, kit, progress)
    if kit and root.name == _TARS["train"]:
        kit.check_classes(image_set)
    return {"": image_set}


def _find_split(root: Path, split: str) -> Path | None:
    """The folder or tar file in `root` that holds the split "train" or "val", if there is one."""
    if (root / split).is_dir():
        return root / split
    return root / _TARS[split] if (root / _TARS[split]).is_file() else None


def _read(path: Path, kit: Devkit | None, progress: bool) -> ImageSet:
    image_set = images_in_tar(path, progress) if path.name in _TARS.values() and path.is_file() else find_images(path)
    if isinstance(image_set, PackedImageSet):
        raise UsageError(f"{path} is a packed set already: use it as it is.")
    if not is_validation_set(image_set):
        return image_set
    if not kit:
        raise DeconvnetError(
            f"The photos for validation in {path} lie in no class folders, and nothing says what they show: put ImageNet's "
            f"{DEVKIT_NAMES[0]} into {path.parent}."
        )
    return kit.label(image_set)
