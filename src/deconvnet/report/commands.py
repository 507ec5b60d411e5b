"""Which commands a report runs, in the paper's order, and what it cannot show, with the reason."""

import json
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from deconvnet.data import ImageSet
from deconvnet.errors import DeconvnetError
from deconvnet.experiments.class_labels import find_labelled_images, match_classes
from deconvnet.experiments.fig4_evolution.compute import COMPARED
from deconvnet.experiments.fig4_evolution.snapshots import open_snapshots
from deconvnet.experiments.table3_ablation.variants import VARIANTS
from deconvnet.mining import Key, State
from deconvnet.mining.mine import mine_images
from deconvnet.models import ARCHITECTURES, Network
from deconvnet.models.bundled import BUNDLED, bundled_weights
from deconvnet.report.paper_claims import PARTS, Part
from deconvnet.training import Recipe
from deconvnet.training.run_folder import SNAPSHOTS

#: Photos that are mined to measure how fast that is.
_TRIED = 64

#: One photo learnt from takes about as long as this many read and passed through the network.
_TRAINING = 3.5

#: One projection, with its photo read again and its picture drawn and written, takes about as long as this share of one.
_PROJECTING = 0.5

#: Seconds that loading a network, drawing and writing take of each command.
_ASIDE = 4.0

#: Bytes that a command leaves in pictures and numbers, and an atlas for each projection.
_RESULT, _PROJECTION = 3_000_000, 6_000


@dataclass(frozen=True)
class Work:
    """What a command does, by network."""

    passes: Mapping[str, float] = field(default_factory=dict)
    """Photos, or views of them, that go through it."""
    projections: Mapping[str, int] = field(default_factory=dict)
    trained: Mapping[str, float] = field(default_factory=dict)
    """Photos shown in all epochs together."""
    bytes: int = _RESULT


@dataclass(frozen=True)
class Speeds:
    """How fast this machine is."""

    photo: Mapping[str, float]
    """By network, seconds for a photo that is read and mined."""

    @classmethod
    def measure(cls, networks: Mapping[str, Network], image_set: ImageSet) -> "Speeds":
        """Mine a few photos, twice: the first time includes what only the first time takes."""
        found = {}
        some = torch.arange(min(_TRIED, len(image_set)))
        for role, network in networks.items():
            took = []
            for _ in range(2):
                state = State(Key.of(network, image_set, network.convolutional_layers, 9))
                start = time.perf_counter()
                mine_images(state, network, image_set, some)
                took.append(time.perf_counter() - start)
            found[role] = min(took) / len(some)
        return cls(found)

    def seconds(self, work: Work) -> float:
        """About how long `work` takes."""
        return _ASIDE + sum(
            each
            * (
                work.passes.get(role, 0)
                + _TRAINING * work.trained.get(role, 0)
                + _PROJECTING * work.projections.get(role, 0)
            )
            for role, each in self.photo.items()
        )


def bytes_of_atlas(projections: int) -> int:
    """About how much an atlas takes."""
    return _RESULT + projections * _PROJECTION


#: Photos that are shown one by one: to `look`, to `occlude` and `sanity`, to `invariance`.
SHOWN = 5

#: Units of each layer in a quick report's atlases.
_QUICK_UNITS = 32


@dataclass(frozen=True)
class Materials:
    """What a report is made of."""

    folder: Path
    """The photos, as commands are given them."""
    image_set: ImageSet
    shown: tuple[Path, ...]
    """A few of them, as files."""
    specs: Mapping[str, str]
    """The two networks, `alexnet` and `zfnet`, as commands are given them."""
    networks: Mapping[str, Network]
    """The same, loaded; of networks that are still to be trained, untrained ones of their kind."""
    runs: tuple[Path, ...] = ()
    """Folders of finished trainings."""
    landmarks: Path | None = None
    data: Path | None = None
    """The folder with `train` and `val`, if networks are to be trained."""
    train: str = ""
    """The name or file of the recipe to train them by; empty: they are trained already."""
    recipe: Recipe | None = None
    learnt_from: int = 0
    """Photos to train on."""
    seed: int = 0
    quick: bool = False
    device: str = ""
    """As commands are given it; empty: as they choose."""


@dataclass(frozen=True)
class Step:
    """One command of a report."""

    part: str
    name: str
    """What it is of, in a part with several."""
    words: tuple[str, ...]
    """The command, after `deconvnet`."""
    result: Path
    """A file, in the report's folder."""
    to: str = ""
    """Where what the command prints goes, as one would type it; empty: the command writes `result` itself."""
    whole: bool = True
    """Whether the command has finished where `result` is there."""
    work: Work = field(default_factory=Work)

    @property
    def key(self) -> str:
        return f"{self.part}/{self.name}"

    @property
    def typed(self) -> str:
        """The command as one would type it."""
        words = f"deconvnet {shlex.join(self.words)}"
        return f"{words} > {shlex.quote(self.to)}" if self.to else words


@dataclass(frozen=True)
class Planned:
    """A part of a report."""

    part: Part
    steps: tuple[Step, ...]
    missing: tuple[str, ...]
    """What it does not show, and why."""


def plan(materials: Materials, out: Path) -> list[Planned]:
    """What a report in the folder `out` consists of."""
    made = _Plan(materials, out)
    found = []
    for part in PARTS:
        steps: list[Step] = []
        missing: list[str] = []
        for one in getattr(made, part.id.replace("-", "_"))():
            (missing if isinstance(one, str) else steps).append(one)
        found.append(Planned(part, tuple(steps), tuple(missing)))
    return found


_Made = Iterator[Step | str]


class _Plan:
    """For each part a method of its name, which yields steps, and sentences on what is missing."""

    def __init__(self, materials: Materials, out: Path) -> None:
        self.materials, self.out = materials, out
        self.networks, self.count = materials.networks, len(materials.image_set)
        self.quick, self.seed = materials.quick, ("--seed", str(materials.seed))
        self.device = ("--device", materials.device) if materials.device else ()
        self.specs = {
            role: f"{spec}:{out / 'runs' / spec / 'weights.safetensors'}" if materials.train else spec
            for role, spec in materials.specs.items()
        }
        self.runs = tuple(out / "runs" / spec for spec in materials.specs.values()) if materials.train else materials.runs

    def training(self) -> _Made:
        if not self.materials.train:
            yield "The networks were trained before; to train both here, on DATA's train/ and val/, pass `--train paper`."
            return
        for role, kind in self.materials.specs.items():
            # Table 3's first and eighth network; its own command finds them there.
            words = ("ablate", str(self.materials.data), *self._recipe(), "--only", kind, *self.seed)
            result = Path("runs") / kind / "weights.safetensors"
            yield self._step("training", kind, words, result, Path("runs"), self._trained(role, 1.0))

    def look(self) -> _Made:
        for role, spec in self.specs.items():
            file = Path("look") / f"{role}.png"
            yield self._step("look", role, ("look", spec, str(self.materials.shown[0])), file, file, Work({role: 60}))

    def fig_2(self) -> _Made:
        yield from self._without_maps()
        units = ("--units", f"0-{_QUICK_UNITS - 1}") if self.quick else ()
        for role, spec in self._with_maps():
            network = self.networks[role]
            sizes = [network.layer(name).units for name in network.convolutional_layers]
            projections = 9 * sum(min(size, _QUICK_UNITS) if self.quick else size for size in sizes)
            work = Work({role: self.count}, {role: projections}, bytes=bytes_of_atlas(projections))
            yield self._folder("fig-2", role, ("atlas", spec, str(self.materials.folder), *units), "atlas.json", work)

    def fig_3(self) -> _Made:
        for role, spec in self.materials.specs.items():
            yield self._printed("fig-3", role, ("networks", _architecture(spec)), Work(bytes=10_000))

    def fig_4(self) -> _Made:
        if not self.runs:
            yield (
                "It needs the snapshots of a training, which networks that come as one file have not: pass `--run RUN`, a "
                "folder that `deconvnet train` has made, or `--train RECIPE`."
            )
        image_set = self.count + 2 * min(COMPARED, self.count)
        for name, run in self._names_of_runs():
            words = ("evolve", str(run), str(self.materials.folder), *self.seed)
            work = Work({self._role(run): self._snapshots(run) * image_set})
            yield self._folder("fig-4", name, words, "evolution.json", work)

    def fig_5(self) -> _Made:
        image_set = self.materials.shown[: 3 if self.quick else SHOWN]
        for role, spec in self.specs.items():
            words = ("invariance", spec, *map(str, image_set))
            yield self._folder("fig-5", role, words, "invariance.json", Work({role: 2 * 90 * len(image_set)}))

    def fig_6(self) -> _Made:
        if len(list(self._with_maps())) < len(self.specs):
            yield from self._without_maps()
            return
        passes = dict.fromkeys(self.specs, 1.2 * self.count + 50 * 20)
        work = Work(passes, dict.fromkeys(self.specs, 9 * 15))
        words = ("compare", *self.specs.values(), str(self.materials.folder), *self.seed)
        yield self._folder("fig-6", "both", words, "comparison.json", work)

    def fig_7(self) -> _Made:
        yield from self._without_maps()
        image_set = self.materials.shown[:3]
        for role, spec in self._with_maps():
            words = ("occlude", spec, *map(str, image_set), "--others", str(self.materials.folder))
            work = Work({role: self.count + 0.5 * 900 * len(image_set)})
            yield self._folder("fig-7", role, words, "occlusion.json", work)
            if not self.networks[role].classifies:
                yield f"Of {self._name(role)} there is no probability of a class (columns d and e): {_TRUNK}."

    def table_1(self) -> _Made:
        landmarks = self.materials.landmarks
        if landmarks is None:
            yield "It needs photos in which parts are marked: pass `--landmarks FILE`, with the photos beside that file."
            return
        for role, spec in self.specs.items():
            words = ("correspond", spec, str(landmarks.parent), str(landmarks), *self.seed)
            yield self._folder("table-1", role, words, "correspondence.json", Work({role: 30 * 25}))
            if not self.networks[role].classifies:
                yield f"Of {self._name(role)} there is no layer 7: {_TRUNK}."

    def table_2(self) -> _Made:
        judged = []
        for role, network in self.networks.items():
            try:
                if not self.materials.train:
                    match_classes(network, find_labelled_images(self.materials.image_set))
                judged.append(role)
            except DeconvnetError as error:
                yield " ".join([str(error), *_known_error(self.specs[role])])
        if judged:
            words = (
                "evaluate",
                *(self.specs[role] for role in judged),
                str(self.materials.folder),
                "--views",
                "10",
                *self.device,
            )
            passes = dict.fromkeys(judged, 10 * self.count)
            yield self._printed("table-2", "evaluation", words, Work(passes, bytes=10_000))

    def table_3(self) -> _Made:
        if not self.materials.train:
            yield self._printed("table-3", "sizes", ("ablate", "--list"), Work(bytes=10_000))
            yield "No network was trained for this report, so there are sizes and no errors: pass `--train paper`."
            return
        words = ("ablate", str(self.materials.data), *self._recipe(), *self.seed)
        ten = (len(VARIANTS) - 2) / 2
        work = self._trained("alexnet", ten), self._trained("zfnet", 1.5 * ten)  # the wide ones cost more
        trained = {role: image_set for one in work for role, image_set in one.trained.items()}
        yield self._step(
            "table-3", "errors", words, Path("runs") / "ablation.json", Path("runs"),
            Work(trained=trained, bytes=10 * work[0].bytes), whole=False,
        )  # fmt: skip

    def sanity(self) -> _Made:
        image_set = self.materials.shown[: 2 if self.quick else 3]
        less = ("--rules", "deconvnet,guided,gradient", "--draws", "2", "--stride", "58") if self.quick else ()
        for role, spec in self.specs.items():
            words = ("sanity", spec, *map(str, image_set), *self.seed, *less)
            each = 240 if self.quick else 900
            yield self._folder("sanity", role, words, "sanity.json", Work({role: each * len(image_set)}))

    def _with_maps(self) -> Iterator[tuple[str, str]]:
        return ((role, spec) for role, spec in self.specs.items() if self.networks[role].convolutional_layers)

    def _without_maps(self) -> Iterator[str]:
        for role, network in self.networks.items():
            if not network.convolutional_layers:
                yield f"{self._name(role)} has no convolutional layer."

    def _names_of_runs(self) -> Iterator[tuple[str, Path]]:
        names: list[str] = []
        for run in self.runs:
            name = run.absolute().resolve().name or "run"
            names.append(name)
            yield (name if names.count(name) == 1 else f"{name}-{names.count(name)}"), run

    def _recipe(self) -> tuple[str, str]:
        return "--recipe", self.materials.train

    def _trained(self, role: str, networks: float) -> Work:
        assert self.materials.recipe is not None
        shown = networks * self.materials.recipe.epochs * (self.materials.learnt_from + self.count / 3)
        size = 4 * sum(tensor.numel() for tensor in self.networks[role].module.parameters())
        return Work(trained={role: shown}, bytes=12 * size)  # snapshots, a checkpoint with its momenta, weights

    def _role(self, run: Path) -> str:
        """Which of the two networks a run is most like, to reckon with."""
        kinds = {spec: role for role, spec in self.materials.specs.items()}
        return kinds.get(run.name if self.materials.train else open_snapshots(run).network, "zfnet")

    def _snapshots(self, run: Path) -> int:
        if self.materials.recipe is None:
            return len(open_snapshots(run).epochs)
        return len({*SNAPSHOTS, self.materials.recipe.epochs} & set(range(self.materials.recipe.epochs + 1)))

    def _name(self, role: str) -> str:
        return self.networks[role].full_name

    def _step(
        self, part: str, name: str, words: tuple[str, ...], result: Path, out: Path, work: Work, whole: bool = True
    ) -> Step:
        words = (*words, "--out", str(self.out / out), *self.device)
        return Step(part, name, words, result, whole=whole, work=work)

    def _folder(self, part: str, name: str, words: tuple[str, ...], file: str, work: Work) -> Step:
        out = Path(part) / name
        return self._step(part, name, words, out / file, out, work)

    def _printed(self, part: str, name: str, words: tuple[str, ...], work: Work) -> Step:
        result = Path(part) / f"{name}.json"
        return Step(part, name, (*words, "--json"), result, str(self.out / result), work=work)


_TRUNK = "its weights end with the convolutional layers"


def _known_error(spec: str) -> list[str]:
    """Of a network that comes along, how it did when it was trained: `errors.json` beside its weights says so."""
    name, _, keyword = spec.partition(":")
    weights = bundled_weights(name, keyword or BUNDLED.get(name, ""))
    if weights is None:
        return []
    errors = json.loads(weights.with_name("errors.json").read_text(encoding="utf-8"))["errors"]["10 views"]
    error, data = errors["networks"][0]["top1"]["error"], errors["data"]
    on = f"{data['photos']:,} photos of {data['classes']} of ImageNet's classes"
    return [f"On {on} its top-1 error was {error:.1%} (ten views)."]


def _architecture(spec: str) -> str:
    """A network's name without its weights."""
    head, _, rest = spec.partition(":")
    if head == "torchvision":
        return f"{head}:{rest.partition(':')[0]}"
    return head if head in ARCHITECTURES else spec
