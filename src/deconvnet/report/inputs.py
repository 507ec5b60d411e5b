"""Find what a report is made of: photos, networks, and a few photos that are shown one by one."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from deconvnet.data import (
    ImageSet,
    PackedImageSet,
    UnreadableImage,
    find_images,
)
from deconvnet.demo import demo_photo, write_views
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.experiments.fig4_evolution.snapshots import open_snapshots
from deconvnet.experiments.table1_correspondence.landmarks import read_landmarks
from deconvnet.models import Network, load
from deconvnet.models.registry import untrained
from deconvnet.models.weights_metadata import preprocessing_metadata
from deconvnet.report.commands import SHOWN, Materials
from deconvnet.report.paper_claims import NETWORKS
from deconvnet.storage import atomic_path
from deconvnet.training import read_recipe
from deconvnet.training.data import open_data

#: Of scikit-image's photos those that are shown one by one: a cat, a portrait, a cup, a rocket, a man with a camera.
_QUICK = ("chelsea", "astronaut", "coffee", "rocket", "camera")


def check_use(data: Path | None, networks: Mapping[str, str], runs: Sequence[Path], train: str, quick: bool) -> None:
    """Raise `UsageError` for what does not go together; see `gather`."""
    if quick == (data is not None):
        raise UsageError("reproduce takes DATA, a folder of photos, or --quick, which takes scikit-image's.")
    if train and (quick or networks != NETWORKS or runs):
        raise UsageError("--train trains both networks on DATA: leave --quick, --alexnet, --zfnet and --run out.")


def gather(
    data: Path | None,
    folder: Path,
    networks: Mapping[str, str] = NETWORKS,
    *,
    runs: Sequence[Path] = (),
    landmarks: Path | None = None,
    train: str = "",
    seed: int = 0,
    device: str = "cpu",
    typed_device: str = "",
) -> Materials:
    """What a report is made of.

    `data` is a folder of photos, or one with sets `train` and `val`, packed or not, of which `val` is shown; None takes
    scikit-image's photos, written to `folder`, as are the few photos of a packed set that are shown one by one. `networks`
    are what is shown in the place of `alexnet` and of `zfnet`; `train` is a recipe to train both by instead, on `data`.
    `runs` are trainings whose course is shown, `landmarks` a file that says where parts are in the photos beside it. The
    networks are put on `device`; commands are told `typed_device`, if it is not empty.

    Raises `UsageError` and `DeconvnetError` for data, networks, trainings and landmarks that cannot be used, and if `folder`
    cannot be written.
    """
    for run in runs:
        open_snapshots(run)
    if landmarks is not None:
        read_landmarks(landmarks)
    recipe, learnt_from, options = None, 0, {}
    if train and data is not None:
        recipe, sets = read_recipe(train), open_data(data)
        learnt_from, options = len(sets.train), {**recipe.network, "classes": len(sets.classes)}
    loaded = {role: (untrained(spec, options) if train else load(spec)).to(device) for role, spec in networks.items()}
    try:
        if data is None:
            place, shown = folder / "photos", _write_quick(folder)
            image_set = find_images(place)
        else:
            place = data / "val" if (data / "val").is_dir() else data
            image_set = find_images(place)
            shown = _shown(image_set, folder / "shown")
    except OSError as error:
        raise DeconvnetError(f"{folder} cannot be written: {error.strerror or error}.") from error
    return Materials(
        folder=place,
        image_set=image_set,
        shown=shown,
        specs=dict(networks),
        networks=loaded,
        runs=tuple(runs),
        landmarks=landmarks,
        data=data,
        train=train,
        recipe=recipe,
        learnt_from=learnt_from,
        seed=seed,
        quick=data is None,
        device=typed_device,
    )


def _write_quick(folder: Path) -> tuple[Path, ...]:
    """Write scikit-image's views to `image_set` and five photos to `shown`, whose files are returned."""
    image_set = folder / "photos"
    if not image_set.exists():
        write_views(folder / "photos.partial")
        os.replace(folder / "photos.partial", image_set)
    return tuple(_save(demo_photo(name), folder / "shown" / f"{name}.png") for name in _QUICK)


def _save(picture: Image.Image, file: Path) -> Path:
    if not file.exists():
        with atomic_path(file) as beside:
            picture.save(beside)
    return file


def _shown(image_set: ImageSet, folder: Path) -> tuple[Path, ...]:
    """A few photos as files: the first of classes that are evenly spaced or, of few classes or none, of all photos.

    Photos that cannot be read are passed over; those of a packed set are written to `folder`.
    """
    starts = [image_set.labels.index(name) for name in image_set.classes]
    if len(starts) < SHOWN:
        starts = list(range(len(image_set)))
    count = min(SHOWN, len(starts))
    spaced = [starts[number * len(starts) // count] for number in range(count)]
    found: dict[int, Path] = {}
    for index in [*spaced, *range(len(image_set))]:  # the others stand in for what cannot be read
        if len(found) == count:
            break
        if index not in found and (file := _file(image_set, index, folder)):
            found[index] = file
    if not found:
        raise DeconvnetError(f"None of the {len(image_set):,} photos in {image_set.root} can be read.")
    return tuple(found[index] for index in sorted(found))


def _file(image_set: ImageSet, index: int, folder: Path) -> Path | None:
    try:
        picture = image_set.read(index)
    except UnreadableImage:
        return None
    return (
        _save(picture, folder / f"{image_set.paths[index]}.png")
        if isinstance(image_set, PackedImageSet)
        else image_set.file(index)
    )


def key(materials: Materials) -> dict[str, Any]:
    """Told apart by contents, not by paths: weights, classes, preprocessing, photos, landmarks, recipe, trainings, seed."""
    landmarks, data = materials.landmarks, materials.data
    return {
        "networks": {role: _identity(network, bool(materials.train)) for role, network in materials.networks.items()},
        "photos": materials.image_set.digest,
        "runs": [_digest([str(path.name) for path in open_snapshots(run).files.values()]) for run in materials.runs],
        "landmarks": landmarks and hashlib.sha256(landmarks.read_bytes()).hexdigest(),
        "recipes": materials.recipe and materials.recipe.entries(),
        "photos to train on": open_data(data).train.digest if data and materials.train else None,
        "seeds": materials.seed,
        "kind (--quick)": materials.quick,
    }


def about(materials: Materials) -> dict[str, Any]:
    """What the page says of networks and photos."""
    return {
        "networks": {
            role: {
                "full_name": f"{network.name}, trained for this report" if materials.train else network.full_name,
                "digest": "" if materials.train else network.digest,
                "layers": {
                    name: [layer.units, *layer.map_size] if layer.convolutional else [layer.units]
                    for name, layer in network.layers.items()
                },
            }
            for role, network in materials.networks.items()
        },
        "photos": {
            "folder": str(materials.folder),
            "digest": materials.image_set.digest,
            "photos": len(materials.image_set),
            "classes": len(materials.image_set.classes),
        },
        "seed": materials.seed,
        "quick": materials.quick,
    }


def _identity(network: Network, untrained: bool) -> str:
    entries = preprocessing_metadata(network.preprocessing, "mean.npy")
    return _digest([network.name, None if untrained else network.digest, network.classes, entries])


def _digest(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values, default=str).encode()).hexdigest()
