"""Find what a report is made of: images, networks, training runs, and a few sample images that are shown one by one."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from deconvnet.data import ImageSet, PackedImageSet, UnreadableImage, find_images
from deconvnet.demo_images import demo_image, write_views
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.experiments.fig4_evolution import open_snapshots
from deconvnet.experiments.table1_correspondence import read_landmarks
from deconvnet.models import Network, build_untrained, load
from deconvnet.models.weights_metadata import preprocessing_metadata
from deconvnet.report.paper_claims import DEFAULT_NETWORKS
from deconvnet.storage import atomic_path
from deconvnet.training import Recipe, read_recipe
from deconvnet.training.data import open_data

#: Images that are shown one by one, by `look`, `occlude`, `sanity` and `invariance`.
SAMPLE_COUNT = 5

#: Sample images of a quick report, from scikit-image: a cat, a portrait, a cup, a rocket, a man with a camera.
_QUICK_SAMPLES = ("chelsea", "astronaut", "coffee", "rocket", "camera")


@dataclass(frozen=True)
class ReportInputs:
    """What a report is made of."""

    image_folder: Path
    """The images, as commands are given them."""
    image_set: ImageSet
    sample_images: tuple[Path, ...]
    """A few of them, as files."""
    network_specs: Mapping[str, str]
    """The two networks, `alexnet` and `zfnet`, as commands are given them."""
    networks: Mapping[str, Network]
    """The same, loaded; if they are still to be trained, untrained ones of their architecture."""
    training_runs: tuple[Path, ...] = ()
    """Folders of finished training runs, for Fig. 4."""
    landmarks_file: Path | None = None
    data: Path | None = None
    """The folder with `train` and `val`, if networks are to be trained."""
    recipe_name: str = ""
    """The name or file of the recipe to train them by; empty: they are trained already."""
    recipe: Recipe | None = None
    training_image_count: int = 0
    seed: int = 0
    quick: bool = False
    device_option: str = ""
    """As commands are given it; empty: as they choose."""


def check_options(
    data: Path | None, network_specs: Mapping[str, str], training_runs: Sequence[Path], recipe_name: str, quick: bool
) -> None:
    """Raise `UsageError` for options that do not go together; see `collect_inputs`."""
    if quick == (data is not None):
        raise UsageError("reproduce takes DATA, a folder of photos, or --quick, which takes scikit-image's.")
    if recipe_name and (quick or network_specs != DEFAULT_NETWORKS or training_runs):
        raise UsageError("--train trains both networks on DATA: leave --quick, --alexnet, --zfnet and --run out.")


def collect_inputs(
    data: Path | None,
    folder: Path,
    network_specs: Mapping[str, str] = DEFAULT_NETWORKS,
    *,
    training_runs: Sequence[Path] = (),
    landmarks_file: Path | None = None,
    recipe_name: str = "",
    seed: int = 0,
    device: str = "cpu",
    device_option: str = "",
) -> ReportInputs:
    """Find and load what a report is made of.

    `data` is a folder of images, or one with sets `train` and `val`, packed or not, of which `val` is shown; None takes
    scikit-image's photos, written to `folder`, as are the sample images of a packed set. `network_specs` are the networks
    that stand for `alexnet` and `zfnet`; with `recipe_name` both are trained on `data` instead. `training_runs` are shown in
    Fig. 4; `landmarks_file` marks parts of objects in the images next to it, for Table 1. The networks are loaded on
    `device`; commands get `--device device_option` unless that is empty.

    Raises `UsageError` and `DeconvnetError` for data, networks, training runs and landmarks that cannot be used, and if
    `folder` cannot be written.
    """
    for run in training_runs:
        open_snapshots(run)
    if landmarks_file is not None:
        read_landmarks(landmarks_file)
    recipe, training_image_count, options = None, 0, {}
    if recipe_name and data is not None:
        recipe, sets = read_recipe(recipe_name), open_data(data)
        training_image_count, options = len(sets.train), {**recipe.network, "classes": len(sets.classes)}
    networks = {
        role: (build_untrained(spec, options) if recipe_name else load(spec)).to(device)
        for role, spec in network_specs.items()
    }
    try:
        if data is None:
            image_folder, sample_images = folder / "photos", _write_quick_images(folder)
            image_set = find_images(image_folder)
        else:
            image_folder = data / "val" if (data / "val").is_dir() else data
            image_set = find_images(image_folder)
            sample_images = _choose_samples(image_set, folder / "shown")
    except OSError as error:
        raise DeconvnetError(f"{folder} cannot be written: {error.strerror or error}.") from error
    return ReportInputs(
        image_folder=image_folder,
        image_set=image_set,
        sample_images=sample_images,
        network_specs=dict(network_specs),
        networks=networks,
        training_runs=tuple(training_runs),
        landmarks_file=landmarks_file,
        data=data,
        recipe_name=recipe_name,
        recipe=recipe,
        training_image_count=training_image_count,
        seed=seed,
        quick=data is None,
        device_option=device_option,
    )


def _write_quick_images(folder: Path) -> tuple[Path, ...]:
    """Write scikit-image's views to `photos` and five photos to `shown`, whose files are returned."""
    views = folder / "photos"
    if not views.exists():
        write_views(folder / "photos.partial")
        os.replace(folder / "photos.partial", views)
    return tuple(_save_image(demo_image(name), folder / "shown" / f"{name}.png") for name in _QUICK_SAMPLES)


def _save_image(image: Image.Image, file: Path) -> Path:
    """Write `image` unless the file exists."""
    if not file.exists():
        with atomic_path(file) as temporary:
            image.save(temporary)
    return file


def _choose_samples(image_set: ImageSet, folder: Path) -> tuple[Path, ...]:
    """A few images as files: the first of evenly spaced classes or, with few classes or none, evenly spaced images.

    Unreadable images are skipped; those of a packed set are written to `folder`.
    """
    candidates = [image_set.labels.index(name) for name in image_set.classes]
    if len(candidates) < SAMPLE_COUNT:
        candidates = list(range(len(image_set)))
    count = min(SAMPLE_COUNT, len(candidates))
    spaced = [candidates[number * len(candidates) // count] for number in range(count)]
    files: dict[int, Path] = {}
    for index in [*spaced, *range(len(image_set))]:  # the rest replace unreadable ones
        if len(files) == count:
            break
        if index not in files and (file := _image_file(image_set, index, folder)):
            files[index] = file
    if not files:
        raise DeconvnetError(f"None of the {len(image_set):,} photos in {image_set.root} can be read.")
    return tuple(files[index] for index in sorted(files))


def _image_file(image_set: ImageSet, index: int, folder: Path) -> Path | None:
    """The file of an image, written to `folder` for a packed set; None if it cannot be read."""
    try:
        image = image_set.read(index)
    except UnreadableImage:
        return None
    if isinstance(image_set, PackedImageSet):
        return _save_image(image, folder / f"{image_set.paths[index]}.png")
    return image_set.file(index)


def identity_key(inputs: ReportInputs) -> dict[str, Any]:
    """What tells reports apart, by contents and not by paths: weights, classes, preprocessing, images, landmarks, recipe,
    training runs, seed.

    It is the "key" of `report.json`, whose names are printed where a report differs.
    """
    landmarks_file, data = inputs.landmarks_file, inputs.data
    return {
        "networks": {role: _network_digest(network, bool(inputs.recipe_name)) for role, network in inputs.networks.items()},
        "photos": inputs.image_set.digest,
        "runs": [_digest([str(path.name) for path in open_snapshots(run).files.values()]) for run in inputs.training_runs],
        "landmarks": landmarks_file and hashlib.sha256(landmarks_file.read_bytes()).hexdigest(),
        "recipes": inputs.recipe and inputs.recipe.entries(),
        "photos to train on": open_data(data).train.digest if data and inputs.recipe_name else None,
        "seeds": inputs.seed,
        "kind (--quick)": inputs.quick,
    }


def describe_inputs(inputs: ReportInputs) -> dict[str, Any]:
    """What the page shows about networks and images: the "about" of `report.json`."""
    return {
        "networks": {
            role: {
                "full_name": f"{network.name}, trained for this report" if inputs.recipe_name else network.full_name,
                "digest": "" if inputs.recipe_name else network.digest,
                "layers": {
                    name: [layer.units, *layer.map_size] if layer.convolutional else [layer.units]
                    for name, layer in network.layers.items()
                },
            }
            for role, network in inputs.networks.items()
        },
        "photos": {
            "folder": str(inputs.image_folder),
            "digest": inputs.image_set.digest,
            "photos": len(inputs.image_set),
            "classes": len(inputs.image_set.classes),
        },
        "seed": inputs.seed,
        "quick": inputs.quick,
    }


def _network_digest(network: Network, untrained: bool) -> str:
    preprocessing = preprocessing_metadata(network.preprocessing, "mean.npy")
    return _digest([network.name, None if untrained else network.digest, network.classes, preprocessing])


def _digest(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values, default=str).encode()).hexdigest()
