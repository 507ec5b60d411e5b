"""Find what a report is made of: photos, networks, and a few photos that are shown one by one."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from deconvnet.demo import demo_photo, write_views
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.experiments.landmarks import read_landmarks
from deconvnet.experiments.snapshots import open_snapshots
from deconvnet.files import refuse_existing
from deconvnet.images import PackedPhotos, Photos, UnreadableImage, find_photos
from deconvnet.networks import load
from deconvnet.networks.catalogue import untrained
from deconvnet.report.paper import NETWORKS
from deconvnet.report.plan import SHOWN, Materials
from deconvnet.training import read_recipe
from deconvnet.training.data import open_data

#: Of scikit-image's photos those that are shown one by one: a cat, a portrait, a cup, a rocket, a man with a camera.
_QUICK = ("chelsea", "astronaut", "coffee", "rocket", "camera")


def gather(
    data: Path | None,
    out: Path,
    networks: Mapping[str, str] = NETWORKS,
    *,
    runs: Sequence[Path] = (),
    landmarks: Path | None = None,
    train: str = "",
    seed: int = 0,
    quick: bool = False,
    device: str = "cpu",
    typed_device: str = "",
) -> Materials:
    """What `reproduce` makes a report in `out` of.

    `data` is a folder of photos, or one with sets `train` and `val`, packed or not, of which `val` is shown; `quick` takes
    scikit-image's photos instead, written to `out`. `networks` are what is shown in the place of `alexnet` and of `zfnet`;
    `train` is a recipe to train both by instead, on `data`. `runs` are trainings whose course is shown, `landmarks`
    a file that says where parts are in the photos beside it.

    Raises `UsageError` for what does not go together and for an `out` that holds anything but a report, `DeconvnetError` for
    data, networks, trainings and landmarks that cannot be used.
    """
    if quick == (data is not None):
        raise UsageError("reproduce takes DATA, a folder of photos, or --quick, which takes scikit-image's.")
    if train and (quick or networks != NETWORKS or runs):
        raise UsageError("--train trains both networks on DATA: leave --quick, --alexnet, --zfnet and --run out.")
    if not (out / "report.json").exists() and not (out / "photos").is_dir():
        refuse_existing(out.resolve())
    for run in runs:
        open_snapshots(run)
    if landmarks is not None:
        read_landmarks(landmarks)
    recipe, learnt_from, options = None, 0, {}
    if train:
        assert data is not None
        recipe, sets = read_recipe(train), open_data(data)
        learnt_from, options = len(sets.train), {**recipe.network, "classes": len(sets.classes)}
    folder = out / "photos" if data is None else data / "val" if (data / "val").is_dir() else data
    if data is None and not (out / "shown" / f"{_QUICK[-1]}.png").exists():
        write_views(folder)
        (out / "shown").mkdir(exist_ok=True)
        for name in _QUICK:
            demo_photo(name).save(out / "shown" / f"{name}.png")
    photos = find_photos(folder)
    return Materials(
        folder,
        photos,
        tuple(out / "shown" / f"{name}.png" for name in _QUICK) if quick else _shown(photos, out / "shown"),
        dict(networks),
        {role: (untrained(spec, options) if train else load(spec)).to(device) for role, spec in networks.items()},
        tuple(runs),
        landmarks,
        data,
        train,
        recipe,
        learnt_from,
        seed,
        quick,
        typed_device,
    )


def _shown(photos: Photos, folder: Path) -> tuple[Path, ...]:
    """A few photos as files: the first readable ones of classes that are evenly spaced, or without classes of all photos.

    Those of a packed set are written to `folder`.
    """
    starts = [photos.labels.index(name) for name in photos.classes] or list(range(len(photos)))
    count = min(SHOWN, len(starts))
    chosen = [starts[number * len(starts) // count] for number in range(count)]
    return tuple(_file(photos, index, folder) for index in chosen)


def _file(photos: Photos, index: int, folder: Path) -> Path:
    label = photos.labels[index] if photos.classes else None
    while True:
        try:
            picture = photos.read(index)
            break
        except UnreadableImage as error:
            index += 1
            if index == len(photos) or (label is not None and photos.labels[index] != label):
                raise DeconvnetError(
                    f"No photo of {label or photos.root} can be read, so none can be shown: {error}."
                ) from None
    if not isinstance(photos, PackedPhotos):
        return photos.file(index)
    file = (folder / photos.paths[index]).with_suffix(".png")
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        picture.save(file)
    return file
