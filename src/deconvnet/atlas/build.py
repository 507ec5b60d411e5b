"""Make an atlas: mine, project, draw, write; in a folder beside the final one, which appears only when all is done."""

import json
import os
import platform
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from PIL import Image

from deconvnet.atlas.drawing import UnitLayout, filter_sheet, unit_picture
from deconvnet.atlas.figures import layer_figure
from deconvnet.atlas.page import write_page
from deconvnet.atlas.project_hits import UnitPieces, picture_size, project_hits
from deconvnet.atlas.tables import write_tables
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.images import Photos, find_photos
from deconvnet.mining import HISTOGRAM_EDGES, Mined, mine
from deconvnet.networks import Network
from deconvnet.networks.description import preprocessing_entries
from deconvnet.progress import bar

FORMAT = 1


def build_atlas(
    network: Network,
    images: Path | str | Iterable[Path | str] | Photos,
    out: Path,
    layers: Sequence[str] | None = None,
    units: Sequence[int] | None = None,
    top: int = 9,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool = False,
) -> None:
    """Write an atlas to `out`; see `Atlas.build`."""
    out = out.absolute()
    photos = find_photos(images)
    chosen = _choose(network, network.convolutional_layers if layers is None else layers, units)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists already: choose another --out, or remove it first.")
    digest = photos.digest
    partial: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        mined = mine(network, photos, list(chosen), top, batch_size=batch_size, workers=workers, progress=progress)
        write_tables(mined, chosen, partial)
        differences = _draw_units(network, mined, chosen, partial, batch_size, workers, progress)
        description = _describe(network, mined, digest, chosen, differences)
        if network.filters is not None and next(iter(network.layers)) in chosen:
            np.save(partial / "filters.npy", network.filters.float().cpu().numpy())
            filter_sheet(network.filters, network.full_name).save(partial / "filters.png")
        if isinstance(description["preprocessing"]["mean"], str):
            np.save(partial / description["preprocessing"]["mean"], network.preprocessing.mean.numpy())
        for name in chosen:
            layer_figure(partial, description, name).save(partial / f"figure-{name}.png")
        write_page(partial, description, chosen)
        (partial / "atlas.json").write_text(json.dumps(description, indent=1), encoding="utf-8")
        partial.chmod(0o755)  # mkdtemp makes folders that nobody else may read
        if out.exists():
            out.rmdir()  # empty, or it would have been refused
        partial.rename(out)
    except OSError as error:
        raise DeconvnetError(f"The atlas cannot be written to {out}: {error.strerror or error}.") from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)  # whatever was not finished


def _choose(network: Network, layers: Iterable[str], units: Sequence[int] | None) -> dict[str, list[int]]:
    """The units to show of each layer, layers in the order in which they run."""
    names = sorted(set(layers), key=lambda name: network.layer(name).index)
    if not names:
        raise UsageError(f"No layer was chosen: {network.name} has {', '.join(network.layers)}.")
    counts = {name: network.layer(name).units for name in names}
    if units is None:
        return {name: list(range(count)) for name, count in counts.items()}
    unknown = [unit for unit in units if not 0 <= unit < max(counts.values())]
    if unknown or not units:
        largest = ", ".join(f"{name} has 0–{count - 1}" for name, count in counts.items())
        raise UsageError(f"There is no unit {unknown[0] if unknown else 'chosen'}: {largest}.")
    inside = {name: sorted({unit for unit in units if unit < count}) for name, count in counts.items()}
    return {name: found for name, found in inside.items() if found}


def _draw_units(
    network: Network,
    mined: Mined,
    chosen: dict[str, list[int]],
    folder: Path,
    batch_size: int,
    workers: int | None,
    progress: bool,
) -> dict[str, float]:
    """Project and draw every chosen unit; returns each layer's largest difference between mined and found values."""
    total = sum(map(len, chosen.values()))
    differences = dict.fromkeys(chosen, 0.0)
    seen: set[int] = set()
    (folder / "images").mkdir()
    with bar("projecting", total, progress) as advance, _Writers() as writers:

        def see_view(image: int, view: np.ndarray) -> None:
            if image not in seen:
                seen.add(image)
                writers.submit(_save, Image.fromarray(view), folder / "images" / f"{image:05d}.webp", lossless=False)

        for name, units in chosen.items():
            (folder / name).mkdir()
            layout = UnitLayout(picture_size(network, network.layer(name)), mined.top)
            for pieces in project_hits(
                network, mined[name], units, batch_size=batch_size, workers=workers, see_view=see_view
            ):
                writers.submit(_save_unit, pieces, layout, name, network.full_name, folder)
                differences[name] = max(differences[name], pieces.difference)
                advance(1)
    return differences


def _save_unit(pieces: UnitPieces, layout: UnitLayout, layer: str, network: str, folder: Path) -> None:
    heading = f"{layer} · unit {pieces.unit}"
    picture = unit_picture(pieces.projections, pieces.patches, layout, heading, network)
    # Enlarged patches are squares of one colour, which compress well and would blur.
    _save(picture, folder / layer / f"{pieces.unit:04d}.webp", lossless=layout.zoom > 1)


def _save(picture: Image.Image, file: Path, lossless: bool) -> None:
    picture.save(file, lossless=lossless, quality=50 if lossless else 90, method=2 if lossless else 4)


class _Writers:
    """Threads that draw and encode pictures beside the projecting, never far behind it."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
        self.waiting: deque[Future[None]] = deque()

    def submit(self, work: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        self.waiting.append(self.pool.submit(work, *args, **kwargs))
        while len(self.waiting) > 16:
            self.waiting.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.pool.shutdown(cancel_futures=kind is not None)
        if kind is None:
            for done in self.waiting:
                done.result()


def _describe(
    network: Network, mined: Mined, digest: str, chosen: dict[str, list[int]], differences: dict[str, float]
) -> dict[str, Any]:
    """What atlas.json says."""
    photos = mined.photos
    layers = []
    for name, units in chosen.items():
        layer, field = mined[name].layer, mined[name].layer.field
        height, width = picture_size(network, layer)
        layers.append(
            {
                "name": name,
                "units": layer.units,
                "chosen": "all" if len(units) == layer.units else units,
                "rows": layer.map_size[0],
                "columns": layer.map_size[1],
                "field": {"rows": asdict(field.rows), "columns": asdict(field.columns)},
                "picture": {"height": height, "width": width},
                "largest_difference": differences[name],
            }
        )
    return {
        "format": FORMAT,
        "network": {
            "name": network.name,
            "weights": network.weights,
            "full_name": network.full_name,
            "digest": network.digest,
            "classifies": network.classifies,
        },
        "preprocessing": preprocessing_entries(network.preprocessing, "mean.npy"),
        "images": {
            "folder": str(photos.root),
            "digest": digest,
            "found": len(photos),
            "read": mined.read,
            "classes": len(photos.classes),
            "skipped": [{"path": photos.paths[index], "reason": reason} for index, reason in mined.skipped.items()],
            "ignored": list(photos.ignored),
        },
        "top": mined.top,
        "layers": layers,
        "histogram_edges": HISTOGRAM_EDGES.tolist(),
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in ("deconvnet", "torch", "numpy", "pillow")},
        },
    }
