"""The sets of photos that `deconvnet pack` is pointed at: one, or those for training and for validation."""

from pathlib import Path

from deconvnet.data.image_set import ImageSet, require_same_classes
from deconvnet.data.packed import PackedImageSet
from deconvnet.data.sources.devkit import DEVKIT, Devkit, are_validation_images
from deconvnet.data.sources.folders import find_images
from deconvnet.data.sources.tars import images_in_tar
from deconvnet.errors import DeconvnetError, UsageError

#: ImageNet 2012's tar files, of one tar file per class and of photos.
_TARS = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}


def find_sets(images: Path | str, progress: bool = False) -> dict[str, ImageSet]:
    """The sets "train" and "val" of a folder that has both, as folders or as ImageNet 2012's tar files; or else the one set,
    named "", of a folder of photos or of one of those tar files.

    Photos for validation that lie in no class folders get their classes from ImageNet's development kit, packed or not,
    which lies beside them. Raises `DeconvnetError` if it is missing or says otherwise than the photos, if the classes for
    training and validation differ, or if something is damaged; `UsageError` if the photos are packed already.
    """
    root = Path(images)
    places = {name: _place(root, name) for name in _TARS}
    train, val = places["train"], places["val"]
    if train and val:
        kit = Devkit.find(root)
        sets = {"train": _read(train, kit, progress), "val": _read(val, kit, progress)}
        require_same_classes(sets["train"], sets["val"])
        if kit:
            kit.check_classes(sets["train"])
        return sets
    for name, place in places.items():
        if place and place.is_file():
            (other,) = places.keys() - {name}
            raise DeconvnetError(
                f"Beside {place} there is neither {other}/ nor {_TARS[other]}: put it there, or pass the one tar file."
            )
    kit = Devkit.find(root, root.parent)
    image_set = _read(root, kit, progress)
    if kit and root.name == _TARS["train"]:
        kit.check_classes(image_set)
    return {"": image_set}


def _place(root: Path, name: str) -> Path | None:
    """Where a folder has its set `name`, if it has one."""
    if (root / name).is_dir():
        return root / name
    return root / _TARS[name] if (root / _TARS[name]).is_file() else None


def _read(place: Path, kit: Devkit | None, progress: bool) -> ImageSet:
    image_set = images_in_tar(place, progress) if place.name in _TARS.values() and place.is_file() else find_images(place)
    if isinstance(image_set, PackedImageSet):
        raise UsageError(f"{place} is a packed set already: use it as it is.")
    if not are_validation_images(image_set):
        return image_set
    if not kit:
        raise DeconvnetError(
            f"The photos for validation in {place} lie in no class folders, and nothing says what they show: put ImageNet's "
            f"{DEVKIT[0]} into {place.parent}."
        )
    return kit.label(image_set)
