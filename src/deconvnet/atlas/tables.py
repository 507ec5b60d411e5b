"""The tables of an atlas: hits.csv, images.csv, units.csv and classes.npz (docs/file-formats.md)."""

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np

from deconvnet.errors import DeconvnetError
from deconvnet.mining import HISTOGRAM_EDGES, MiningResult

#: Bytes of a table: far more than 10,000 units and 1,000 classes need.
_LARGEST = 2**29

HIT_COLUMNS = ("layer", "unit", "rank", "image", "value", "row", "column", "left", "top", "right", "bottom")


def write_tables(mined: MiningResult, units: dict[str, list[int]], folder: Path) -> None:
    """Write all four tables of the chosen units of each layer."""
    hits = [hit for name, chosen in units.items() for unit in chosen for hit in mined[name][unit]]
    _write(
        folder / "hits.csv",
        HIT_COLUMNS,
        ((h.layer, h.unit, h.rank, h.image, f"{h.value:.9g}", h.row, h.column, *h.box) for h in hits),
    )
    image_set = mined.image_set
    readable = [index for index in range(len(image_set)) if index not in mined.skipped]
    _write(
        folder / "images.csv",
        ("image", "path", "label"),
        ((index, image_set.paths[index], image_set.labels[index]) for index in readable),
    )
    _write(folder / "units.csv", unit_columns(), _unit_rows(mined, units))
    sums = {name: mined[name].statistics.class_sums[:, chosen].numpy() for name, chosen in units.items()}
    counts = next(iter(mined.layers.values())).statistics.class_images.numpy()
    arrays = {"classes": np.array(image_set.classes, dtype=str), "images": counts, **sums}
    with ZipFile(folder / "classes.npz", "w", ZIP_DEFLATED) as opened:  # np.savez has a parameter of its own called `file`
        for name, array in arrays.items():
            with opened.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def unit_columns() -> list[str]:
    """The columns of units.csv; a histogram's column is named by the lower bound of its bin."""
    return [
        "layer",
        "unit",
        "active_share",
        "mean_max",
        "selectivity",
        "0",
        *(f"{edge:.3g}" for edge in HISTOGRAM_EDGES.tolist()),
    ]


def _unit_rows(mined: MiningResult, units: dict[str, list[int]]) -> Iterable[Sequence[Any]]:
    for name, chosen in units.items():
        statistics = mined[name].statistics
        share, mean, selectivity = statistics.active_share, statistics.mean_max, statistics.selectivity
        for unit in chosen:
            selective = selectivity[unit].item()
            yield (
                name,
                unit,
                f"{share[unit].item():.6g}",
                f"{mean[unit].item():.6g}",
                "" if math.isnan(selective) else f"{selective:.6g}",
                *statistics.histogram[unit].tolist(),
            )


def _write(file: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with file.open("w", newline="", encoding="utf-8", errors="surrogateescape") as opened:
        # Before Python 3.13, csv quotes a carriage return only if it is a part of the line's end. So end lines with one, and
        # cut it off.
        lines = SimpleNamespace(write=lambda line: opened.write(line.removesuffix("\r\n") + "\n"))
        writer = csv.writer(lines, lineterminator="\r\n")
        writer.writerow(columns)
        writer.writerows(rows)


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of classes.npz. Raises `DeconvnetError` as `read_table` does."""
    check_file(file)
    with ZipFile(file) as opened:
        if sum(member.file_size for member in opened.infolist()) > _LARGEST:
            raise _too_large(file)
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def check_file(file: Path) -> None:
    """Raise `DeconvnetError` for what is no file, such as a pipe, which would never end, or for one that is too large."""
    if not file.is_file():
        raise DeconvnetError(f"There is no file {file}, so this is no whole atlas: make it again.")
    if file.stat().st_size > _LARGEST:
        raise _too_large(file)


def _too_large(file: Path) -> DeconvnetError:
    return DeconvnetError(f"{file} is larger than {_LARGEST // 2**20} MiB, and no table of an atlas is.")


def read_table(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV table. Raises `DeconvnetError` for what is no file, or a larger one than any atlas has."""
    check_file(file)
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as opened:
        return list(csv.DictReader(opened))
