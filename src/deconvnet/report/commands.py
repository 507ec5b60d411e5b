"""Plan a report: which commands it runs, in the paper's order, and what it cannot show, with the reason."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deconvnet.errors import DeconvnetError
from deconvnet.experiments.class_labels import find_labelled_images, match_classes
from deconvnet.experiments.fig4_evolution import MAX_COMPARED_IMAGES, open_snapshots
from deconvnet.experiments.table3_ablation.variants import VARIANTS
from deconvnet.models import ARCHITECTURES
from deconvnet.models.bundled import BUNDLED, bundled_weights
from deconvnet.report.estimate import Workload, atlas_bytes
from deconvnet.report.inputs import SAMPLE_COUNT, ReportInputs
from deconvnet.report.paper_claims import SECTIONS, ReportSection
from deconvnet.training.run_folder import SNAPSHOT_EPOCHS

#: Units of each layer in a quick report's atlases.
_QUICK_UNITS = 32


@dataclass(frozen=True)
class ReportCommand:
    """One command that a report runs."""

    section: str
    """The id of the report's section that shows its result."""
    name: str
    """What tells it from the section's other commands, mostly the network: "alexnet", "zfnet"."""
    arguments: tuple[str, ...]
    """The command's words, after `deconvnet`."""
    result: Path
    """The file that it makes, relative to the report's folder."""
    output_file: str = ""
    """The file to which standard output goes, as one would type it; empty: the command writes `result` itself."""
    result_is_final: bool = True
    """Whether the command has finished if `result` exists; False for one that writes it while it runs."""
    workload: Workload = field(default_factory=Workload)

    @property
    def key(self) -> str:
        """Its entry under "steps" in `report.json`."""
        return f"{self.section}/{self.name}"

    @property
    def command_line(self) -> str:
        """The command as one would type it in a shell."""
        line = f"deconvnet {shlex.join(self.arguments)}"
        return f"{line} > {shlex.quote(self.output_file)}" if self.output_file else line


@dataclass(frozen=True)
class PlannedSection:
    """A section of a report, with the commands that make it."""

    section: ReportSection
    commands: tuple[ReportCommand, ...]
    missing: tuple[str, ...]
    """What it cannot show, and why: one sentence each."""


def plan_report(inputs: ReportInputs, out: Path) -> list[PlannedSection]:
    """The sections of a report in the folder `out`, in the paper's order."""
    planner = _Planner(inputs, out)
    planned = []
    for section in SECTIONS:
        commands: list[ReportCommand] = []
        missing: list[str] = []
        for item in getattr(planner, section.id.replace("-", "_"))():
            (missing if isinstance(item, str) else commands).append(item)
        planned.append(PlannedSection(section, tuple(commands), tuple(missing)))
    return planned


_Items = Iterator[ReportCommand | str]


class _Planner:
    """One method per section, named after its id, which yields commands, and sentences about what is missing."""

    def __init__(self, inputs: ReportInputs, out: Path) -> None:
        self.inputs, self.out = inputs, out
        self.networks, self.image_count = inputs.networks, len(inputs.image_set)
        self.quick, self.seed = inputs.quick, ("--seed", str(inputs.seed))
        self.device = ("--device", inputs.device_option) if inputs.device_option else ()
        self.specs = {
            role: f"{spec}:{out / 'runs' / spec / 'weights.safetensors'}" if inputs.recipe_name else spec
            for role, spec in inputs.network_specs.items()
        }
        self.runs = (
            tuple(out / "runs" / spec for spec in inputs.network_specs.values())
            if inputs.recipe_name
            else inputs.training_runs
        )

    def training(self) -> _Items:
        if not self.inputs.recipe_name:
            yield "The networks were trained before; to train both here, on DATA's train/ and val/, pass `--train paper`."
            return
        for role, architecture in self.inputs.network_specs.items():
            # These are the first and eighth network of Table 3; its own command finds them in `runs`.
            arguments = ("ablate", str(self.inputs.data), *self._recipe(), "--only", architecture, *self.seed)
            result = Path("runs") / architecture / "weights.safetensors"
            yield self._command(
                "training", architecture, arguments, result, Path("runs"), self._training_workload(role, 1.0)
            )

    def look(self) -> _Items:
        image = str(self.inputs.sample_images[0])
        for role, spec in self.specs.items():
            file = Path("look") / f"{role}.png"
            yield self._command("look", role, ("look", spec, image), file, file, Workload({role: 60}))

    def fig_2(self) -> _Items:
        yield from self._missing_convolutions()
        units = ("--units", f"0-{_QUICK_UNITS - 1}") if self.quick else ()
        for role, spec in self._convolutional_specs():
            network = self.networks[role]
            unit_counts = [network.layer(name).units for name in network.convolutional_layers]
            projections = 9 * sum(min(count, _QUICK_UNITS) if self.quick else count for count in unit_counts)
            workload = Workload({role: self.image_count}, {role: projections}, disk_bytes=atlas_bytes(projections))
            arguments = ("atlas", spec, str(self.inputs.image_folder), *units)
            yield self._folder_command("fig-2", role, arguments, "atlas.json", workload)

    def fig_3(self) -> _Items:
        for role, spec in self.inputs.network_specs.items():
            arguments = ("networks", _without_weights(spec))
            yield self._printing_command("fig-3", role, arguments, Workload(disk_bytes=10_000))

    def fig_4(self) -> _Items:
        if not self.runs:
            yield (
                "It needs the snapshots of a training, which networks that come as one file have not: pass `--run RUN`, a "
                "folder that `deconvnet train` has made, or `--train RECIPE`."
            )
        passes_per_snapshot = self.image_count + 2 * min(MAX_COMPARED_IMAGES, self.image_count)
        for name, run in self._named_runs():
            arguments = ("evolve", str(run), str(self.inputs.image_folder), *self.seed)
            workload = Workload({self._nearest_role(run): self._snapshot_count(run) * passes_per_snapshot})
            yield self._folder_command("fig-4", name, arguments, "evolution.json", workload)

    def fig_5(self) -> _Items:
        images = self.inputs.sample_images[: 3 if self.quick else SAMPLE_COUNT]
        for role, spec in self.specs.items():
            arguments = ("invariance", spec, *map(str, images))
            workload = Workload({role: 2 * 90 * len(images)})
            yield self._folder_command("fig-5", role, arguments, "invariance.json", workload)

    def fig_6(self) -> _Items:
        if len(list(self._convolutional_specs())) < len(self.specs):
            yield from self._missing_convolutions()
            return
        passes = dict.fromkeys(self.specs, 1.2 * self.image_count + 50 * 20)
        workload = Workload(passes, dict.fromkeys(self.specs, 9 * 15))
        arguments = ("compare", *self.specs.values(), str(self.inputs.image_folder), *self.seed)
        yield self._folder_command("fig-6", "both", arguments, "comparison.json", workload)

    def fig_7(self) -> _Items:
        yield from self._missing_convolutions()
        images = self.inputs.sample_images[:3]
        for role, spec in self._convolutional_specs():
            arguments = ("occlude", spec, *map(str, images), "--others", str(self.inputs.image_folder))
            workload = Workload({role: self.image_count + 0.5 * 900 * len(images)})
            yield self._folder_command("fig-7", role, arguments, "occlusion.json", workload)
            if not self.networks[role].classifies:
                yield f"Of {self._full_name(role)} there is no probability of a class (columns d and e): {_TRUNK}."

    def table_1(self) -> _Items:
        landmarks = self.inputs.landmarks_file
        if landmarks is None:
            yield "It needs photos in which parts are marked: pass `--landmarks FILE`, with the photos beside that file."
            return
        for role, spec in self.specs.items():
            arguments = ("correspond", spec, str(landmarks.parent), str(landmarks), *self.seed)
            yield self._folder_command("table-1", role, arguments, "correspondence.json", Workload({role: 30 * 25}))
            if not self.networks[role].classifies:
                yield f"Of {self._full_name(role)} there is no layer 7: {_TRUNK}."

    def table_2(self) -> _Items:
        evaluated = []
        for role, network in self.networks.items():
            try:
                if not self.inputs.recipe_name:
                    match_classes(network, find_labelled_images(self.inputs.image_set))
                evaluated.append(role)
            except DeconvnetError as error:
                yield " ".join([str(error), *_published_error(self.specs[role])])
        if evaluated:
            specs = [self.specs[role] for role in evaluated]
            arguments = ("evaluate", *specs, str(self.inputs.image_folder), "--views", "10", *self.device)
            passes = dict.fromkeys(evaluated, 10 * self.image_count)
            yield self._printing_command("table-2", "evaluation", arguments, Workload(passes, disk_bytes=10_000))

    def table_3(self) -> _Items:
        if not self.inputs.recipe_name:
            yield self._printing_command("table-3", "sizes", ("ablate", "--list"), Workload(disk_bytes=10_000))
            yield "No network was trained for this report, so there are sizes and no errors: pass `--train paper`."
            return
        arguments = ("ablate", str(self.inputs.data), *self._recipe(), *self.seed)
        variants_per_role = (len(VARIANTS) - 2) / 2  # the paper's two networks are trained already
        workloads = (
            self._training_workload("alexnet", variants_per_role),
            self._training_workload("zfnet", 1.5 * variants_per_role),  # the wide variants cost more
        )
        training_images = {role: count for each in workloads for role, count in each.training_images.items()}
        workload = Workload(training_images=training_images, disk_bytes=10 * workloads[0].disk_bytes)
        result = Path("runs") / "ablation.json"
        yield self._command("table-3", "errors", arguments, result, Path("runs"), workload, result_is_final=False)

    def sanity(self) -> _Items:
        images = self.inputs.sample_images[: 2 if self.quick else 3]
        reduced = ("--rules", "deconvnet,guided,gradient", "--draws", "2", "--stride", "58") if self.quick else ()
        passes_per_image = 240 if self.quick else 900
        for role, spec in self.specs.items():
            arguments = ("sanity", spec, *map(str, images), *self.seed, *reduced)
            workload = Workload({role: passes_per_image * len(images)})
            yield self._folder_command("sanity", role, arguments, "sanity.json", workload)

    def _convolutional_specs(self) -> Iterator[tuple[str, str]]:
        return ((role, spec) for role, spec in self.specs.items() if self.networks[role].convolutional_layers)

    def _missing_convolutions(self) -> Iterator[str]:
        for role, network in self.networks.items():
            if not network.convolutional_layers:
                yield f"{self._full_name(role)} has no convolutional layer."

    def _named_runs(self) -> Iterator[tuple[str, Path]]:
        names: list[str] = []
        for run in self.runs:
            name = run.absolute().resolve().name or "run"
            names.append(name)
            yield (name if names.count(name) == 1 else f"{name}-{names.count(name)}"), run

    def _recipe(self) -> tuple[str, str]:
        return "--recipe", self.inputs.recipe_name

    def _training_workload(self, role: str, network_count: float) -> Workload:
        assert self.inputs.recipe is not None
        # Validation, which has no backward pass, costs about a third.
        images = network_count * self.inputs.recipe.epochs * (self.inputs.training_image_count + self.image_count / 3)
        weight_bytes = 4 * sum(tensor.numel() for tensor in self.networks[role].module.parameters())
        # Snapshots, a checkpoint with its momenta, and the final weights.
        return Workload(training_images={role: images}, disk_bytes=12 * weight_bytes)

    def _nearest_role(self, run: Path) -> str:
        """Whose measured speed stands for a training run's network."""
        roles = {spec: role for role, spec in self.inputs.network_specs.items()}
        return roles.get(run.name if self.inputs.recipe_name else open_snapshots(run).network, "zfnet")

    def _snapshot_count(self, run: Path) -> int:
        recipe = self.inputs.recipe
        if recipe is None:
            return len(open_snapshots(run).epochs)
        return len({*SNAPSHOT_EPOCHS, recipe.epochs} & set(range(recipe.epochs + 1)))

    def _full_name(self, role: str) -> str:
        return self.networks[role].full_name

    def _command(
        self,
        section: str,
        name: str,
        arguments: tuple[str, ...],
        result: Path,
        out: Path,
        workload: Workload,
        result_is_final: bool = True,
    ) -> ReportCommand:
        arguments = (*arguments, "--out", str(self.out / out), *self.device)
        return ReportCommand(section, name, arguments, result, result_is_final=result_is_final, workload=workload)

    def _folder_command(
        self, section: str, name: str, arguments: tuple[str, ...], file: str, workload: Workload
    ) -> ReportCommand:
        """A command that writes a folder, which is complete once it holds `file`."""
        out = Path(section) / name
        return self._command(section, name, arguments, out / file, out, workload)

    def _printing_command(self, section: str, name: str, arguments: tuple[str, ...], workload: Workload) -> ReportCommand:
        """A command that prints JSON, which the report keeps."""
        result = Path(section) / f"{name}.json"
        return ReportCommand(section, name, (*arguments, "--json"), result, str(self.out / result), workload=workload)


_TRUNK = "its weights end with the convolutional layers"


def _published_error(spec: str) -> list[str]:
    """A sentence on the top-1 error of a bundled network, from `errors.json` next to its weights; empty for any other."""
    name, _, keyword = spec.partition(":")
    weights = bundled_weights(name, keyword or BUNDLED.get(name, ""))
    if weights is None:
        return []
    errors = json.loads(weights.with_name("errors.json").read_text(encoding="utf-8"))["errors"]["10 views"]
    error, data = errors["networks"][0]["top1"]["error"], errors["data"]
    images = f"{data['photos']:,} photos of {data['classes']} of ImageNet's classes"
    return [f"On {images} its top-1 error was {error:.1%} (ten views)."]


def _without_weights(spec: str) -> str:
    """The architecture in a network's spec NAME:WEIGHTS."""
    name, _, rest = spec.partition(":")
    if name == "torchvision":
        return f"{name}:{rest.partition(':')[0]}"
    return name if name in ARCHITECTURES else spec
