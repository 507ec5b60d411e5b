"""Table 3: networks with layers removed, narrowed or widened, each trained from scratch, beside the paper's errors."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from deconvnet.distributed import Processes
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.experiments.table2_errors.compute import evaluate
from deconvnet.experiments.table3_ablation.table import (
    TRAIN_VIEWS,
    VAL_VIEWS,
    Ablation,
    Row,
)
from deconvnet.experiments.table3_ablation.variants import (
    VARIANTS,
    Errors,
    Variant,
    size,
)
from deconvnet.models import load
from deconvnet.progress import say
from deconvnet.storage import WorkFolder, atomic_path, atomic_write, first_difference
from deconvnet.training import Recipe, read_recipe, train
from deconvnet.training.data import TrainingData, open_data


def ablate(
    data: Path | str,
    out: Path | str,
    recipe: Recipe | Path | str = "paper",
    *,
    seed: int = 0,
    only: Sequence[str] | None = None,
    device: str | torch.device = "cpu",
    workers: int | None = None,
    progress: bool = False,
) -> Ablation:
    """Train the variants of Table 3 (those whose labels are in `only`) on `data`, as `train` does, and judge them.

    Each is trained by `recipe`, whose options of the network hold where a variant does not change them, in a folder of its
    own in `out`; a variant that was finished there is not trained again, one that was begun goes on. `ablation.json`,
    `ablation.csv` and `ablation.png` in `out` show all twelve, and are written again after each. Several processes may
    work on different variants in one `out`.

    Raises `UsageError` for labels or options that do not exist and under `torchrun`, `DeconvnetError` for data that cannot
    be used, for an `out` that holds an ablation of other photos or another recipe or anything else, and where training
    fails.
    """
    if Processes.here().count > 1:
        raise UsageError(
            "An ablation is trained by one process: give each GPU variants of its own, with --only and --device cuda:0, "
            "cuda:1 …, and all the same --out."
        )
    recipe = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    chosen = choose(only)
    sets, out = open_data(data), Path(os.path.realpath(out))
    options = {**recipe.network, "classes": len(sets.classes)}
    sizes = {variant.label: size(variant, options) for variant in VARIANTS}

    def so_far() -> Ablation:
        rows = (Row(variant, sizes[variant.label], _errors(out / variant.label)) for variant in VARIANTS)
        image_set = {name: (len(of), of.digest) for name, of in (("train", sets.train), ("val", sets.val))}
        return Ablation(str(data), len(sets.classes), image_set, recipe.entries(), seed, tuple(rows))

    _open(out, so_far())
    for number, variant in enumerate(chosen, 1):
        say(f"{variant.label}: {variant.change}, {number} of {len(chosen)}", progress)
        try:
            varied = replace(recipe, network={**recipe.network, **variant.options})
            folder = out / variant.label
            weights = train(
                variant.network, data, folder, varied, seed=seed, device=device, workers=workers, progress=progress
            )
        except DeconvnetError as error:
            error.add_note(f"(This was {variant.label}; --only trains the others.)")
            raise
        judged = folder / "errors.json"
        if _errors(folder) is None or judged.stat().st_mtime < weights.stat().st_mtime:
            errors = _judge(variant, weights, sets, device, workers, progress)
            atomic_write(judged, json.dumps(asdict(errors), indent=1).encode())
        _write(out, so_far())
    return so_far()


def choose(labels: Sequence[str] | None) -> tuple[Variant, ...]:
    """The variants with these labels, in the paper's order; all for None. Raises `UsageError` for one that is unknown."""
    known = {variant.label: variant for variant in VARIANTS}
    unknown = [label for label in labels or () if label not in known]
    if unknown:
        raise UsageError(f"Table 3 has no variant {unknown[0]!r}; there are {', '.join(known)}.")
    return tuple(variant for variant in VARIANTS if labels is None or variant.label in labels)


def _judge(
    variant: Variant,
    weights: Path,
    sets: TrainingData,
    device: str | torch.device,
    workers: int | None,
    progress: bool,
) -> Errors:
    net = load(variant.network, weights).to(device)
    (train,) = evaluate([net], sets.train, TRAIN_VIEWS, workers=workers, progress=progress).networks
    (val,) = evaluate([net], sets.val, VAL_VIEWS, workers=workers, progress=progress).networks
    return Errors(train.top1.share, val.top1.share, val.top5.share)


def _errors(folder: Path) -> Errors | None:
    """What was found of a variant, if it was judged."""
    try:
        return Errors(**json.loads((folder / "errors.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _open(out: Path, ablation: Ablation) -> None:
    """Begin an ablation in a new or empty folder, or resume the one in it. Several processes may be at work there."""
    work = WorkFolder(out, "ablation", "ablation.json", in_place=True)

    def difference(record: dict[str, Any]) -> str:
        name = first_difference(record, ablation.key)
        return name and f"{'other' if name == 'photos' else 'another'} {name}"

    work.refuse_foreign()
    if not work.is_begun(difference):
        _write(out, ablation)


def _write(out: Path, ablation: Ablation) -> None:
    for name in ("ablation.json", "ablation.csv", "ablation.png"):
        with atomic_path(out / name) as file:  # under a name of this process's own: others may write, too
            if file.suffix == ".json":
                file.write_text(json.dumps(ablation.as_json(), indent=1), encoding="utf-8")
            elif file.suffix == ".csv":
                file.write_text(ablation.as_csv(), encoding="utf-8")
            else:
                ablation.figure().savefig(file)
