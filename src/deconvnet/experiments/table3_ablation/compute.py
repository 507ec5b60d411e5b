"""Compute Table 3: train networks with layers removed, narrowed or widened, and compare their errors with the paper's."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from deconvnet.distributed import Processes, local_device
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.experiments.table2_errors import evaluate
from deconvnet.experiments.table3_ablation.result import TRAIN_VIEWS, VAL_VIEWS, Ablation, AblationRow
from deconvnet.experiments.table3_ablation.variants import VARIANTS, Errors, Variant, network_size
from deconvnet.models import Network, load
from deconvnet.progress import print_status
from deconvnet.storage import WorkFolder, atomic_path, first_difference, write_json
from deconvnet.training import Recipe, read_recipe, train
from deconvnet.training.data import TrainingData, open_data

#: In a variant's folder: its errors, once they are measured.
_ERRORS_FILE = "errors.json"


def ablate(
    data: Path | str,
    out: Path | str,
    recipe: Recipe | Path | str = "paper",
    *,
    seed: int = 0,
    only: Sequence[str] | None = None,
    device: str | torch.device | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> Ablation:
    """Train the variants of Table 3 (those whose labels are in `only`) on `data`, as `train` does, and measure their errors.

    Each is trained by `recipe`, with its network options except those that the variant changes, in a folder of `out` named
    after its label. A variant that is finished there is not trained again, an interrupted one is resumed. `ablation.json`,
    `ablation.csv` and `ablation.png` in `out` have a row for all twelve and are rewritten after each. Several processes may
    train different variants in one `out`. `device` None is a GPU if there is one, else the CPU.

    Raises `UsageError` for unknown labels or options and under `torchrun`, `DeconvnetError` for data that cannot be used,
    for an `out` that holds anything but the same ablation, and if training fails.
    """
    if Processes.from_environment().world_size > 1:
        raise UsageError(
            "An ablation is trained by one process: give each GPU variants of its own, with --only and --device cuda:0, "
            "cuda:1 …, and all the same --out."
        )
    recipe, device = recipe if isinstance(recipe, Recipe) else read_recipe(recipe), local_device(device)
    selected = select_variants(only)
    training_data, out = open_data(data), Path(os.path.realpath(out))
    options = {**recipe.network, "classes": len(training_data.classes)}
    sizes = {variant.label: network_size(variant, options) for variant in VARIANTS}
    image_sets = {
        "train": (len(training_data.train), training_data.train.digest),
        "val": (len(training_data.val), training_data.val.digest),
    }

    def current_ablation() -> Ablation:
        rows = (AblationRow(variant, sizes[variant.label], _read_errors(out / variant.label)) for variant in VARIANTS)
        return Ablation(str(data), len(training_data.classes), image_sets, recipe.entries(), seed, tuple(rows))

    _begin_or_resume(out, current_ablation())
    for number, variant in enumerate(selected, 1):
        print_status(f"{variant.label}: {variant.change}, {number} of {len(selected)}", progress)
        folder = out / variant.label
        variant_recipe = replace(recipe, network={**recipe.network, **variant.options})
        try:
            weights = train(
                variant.network, data, folder, variant_recipe, seed=seed, device=device, workers=workers, progress=progress
            )
        except DeconvnetError as error:
            error.add_note(f"(This was {variant.label}; --only trains the others.)")
            raise
        errors_file = folder / _ERRORS_FILE
        if _read_errors(folder) is None or errors_file.stat().st_mtime < weights.stat().st_mtime:
            errors = _measure_errors(load(variant.network, weights).to(device), training_data, workers, progress)
            write_json(errors_file, asdict(errors))
        _write_tables(out, current_ablation())
    return current_ablation()


def select_variants(labels: Sequence[str] | None) -> tuple[Variant, ...]:
    """The variants with these labels, in the paper's order; all for None. Raises `UsageError` for an unknown label."""
    known = {variant.label: variant for variant in VARIANTS}
    unknown = [label for label in labels or () if label not in known]
    if unknown:
        raise UsageError(f"Table 3 has no variant {unknown[0]!r}; there are {', '.join(known)}.")
    return tuple(variant for variant in VARIANTS if labels is None or variant.label in labels)


def _measure_errors(network: Network, data: TrainingData, workers: int | None, progress: bool) -> Errors:
    (on_train,) = evaluate([network], data.train, TRAIN_VIEWS, workers=workers, progress=progress).networks
    (on_val,) = evaluate([network], data.val, VAL_VIEWS, workers=workers, progress=progress).networks
    return Errors(on_train.top1.rate, on_val.top1.rate, on_val.top5.rate)


def _read_errors(folder: Path) -> Errors | None:
    """The errors of the variant in `folder`; None if they are not measured yet."""
    try:
        return Errors(**json.loads((folder / _ERRORS_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _begin_or_resume(out: Path, ablation: Ablation) -> None:
    """Begin an ablation in a new or empty folder, or check that the one in it is the same.

    The folder is not locked, as several processes may train variants in it.
    """
    work = WorkFolder(out, "ablation", "ablation.json", in_place=True)

    def difference(record: dict[str, Any]) -> str:
        name = first_difference(record, ablation.key)
        return name and f"{'other' if name == 'photos' else 'another'} {name}"

    work.refuse_foreign()
    if not work.has_record(difference):
        _write_tables(out, ablation)


def _write_tables(out: Path, ablation: Ablation) -> None:
    texts = {"ablation.json": json.dumps(ablation.as_json(), indent=1), "ablation.csv": ablation.as_csv()}
    for name, text in texts.items():
        with atomic_path(out / name) as file:  # its name is unique to this process: another one may write at the same time
            file.write_text(text, encoding="utf-8")
    with atomic_path(out / "ablation.png") as file:
        ablation.figure().savefig(file)
