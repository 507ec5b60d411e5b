"""The tables of an atlas: hits.csv, images.csv, units.csv and classes.npz (docs/file-formats.md)."""

import csv
import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np

from deconvnet.errors import DeconvnetError
from deconvnet.mining import HISTOGRAM_EDGES, MiningResult

#: Bytes of a table: far more than 10,000 units and 1,000 classes need.
_MAX_BYTES = 2**29

HIT_COLUMNS = ("layer", "unit", "rank", "image", "value", "row", "column", "left", "top", "right", "bottom")
IMAGE_COLUMNS = ("image", "path", "label")
#: Columns of the histogram of maxima in units.csv, named by the lower edge of each bin.
HISTOGRAM_COLUMNS = ("0", *(f"{edge:.3g}" for edge in HISTOGRAM_EDGES.tolist()))
UNIT_COLUMNS = ("layer", "unit", "active_share", "mean_max", "selectivity", *HISTOGRAM_COLUMNS)

#: A row of a table as text, by column.
Row = dict[str, str]


@dataclass(frozen=True)
class Tables:
    """The content of an atlas's tables, as its files hold it: numbers have the digits that are written."""

    hits: list[Row]
    images: list[Row]
    units: list[Row]
    classes: dict[str, np.ndarray]
    """The arrays of classes.npz: `classes` names, `images` of each class and, by layer, `class_sums` (classes, units)."""

    @classmethod
    def from_result(cls, result: MiningResult, units: dict[str, list[int]]) -> Self:
        """The tables of the chosen `units` of each layer."""
        image_set = result.image_set
        hits = (hit for name, chosen in units.items() for unit in chosen for hit in result[name][unit])
        readable = (index for index in range(len(image_set)) if index not in result.skipped)
        sums = {name: result[name].statistics.class_sums[:, chosen].numpy() for name, chosen in units.items()}
        counts = next(iter(result.layers.values())).statistics.class_images.numpy()
        return cls(
            hits=_to_rows(
                HIT_COLUMNS,
                ((h.layer, h.unit, h.rank, h.image, f"{h.value:.9g}", h.row, h.column, *h.box) for h in hits),
            ),
            images=_to_rows(IMAGE_COLUMNS, ((index, image_set.paths[index], image_set.labels[index]) for index in readable)),
            units=_to_rows(UNIT_COLUMNS, _unit_values(result, units)),
            classes={"classes": np.array(image_set.classes, dtype=str), "images": counts, **sums},
        )

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The tables of the atlas in `folder`. Raises what `read_table` raises."""
        return cls(
            hits=read_table(folder / "hits.csv"),
            images=read_table(folder / "images.csv"),
            units=read_table(folder / "units.csv"),
            classes=_read_arrays(folder / "classes.npz"),
        )

    def write(self, folder: Path) -> None:
        """Write all four files. Raises `OSError`."""
        (folder / "hits.csv").write_bytes(_encode(HIT_COLUMNS, self.hits))
        (folder / "images.csv").write_bytes(_encode(IMAGE_COLUMNS, self.images))
        (folder / "units.csv").write_bytes(_encode(UNIT_COLUMNS, self.units))
        # np.savez has a parameter called `file`, which is a possible name of a layer.
        with ZipFile(folder / "classes.npz", "w", ZIP_DEFLATED) as archive:
            for name, array in self.classes.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)

    @property
    def hits_digest(self) -> str:
        """SHA-256 of hits.csv."""
        return hashlib.sha256(_encode(HIT_COLUMNS, self.hits)).hexdigest()


def _to_rows(columns: Sequence[str], values: Iterable[Sequence[Any]]) -> list[Row]:
    return [dict(zip(columns, map(str, row), strict=True)) for row in values]


def _unit_values(result: MiningResult, units: dict[str, list[int]]) -> Iterator[Sequence[Any]]:
    for name, chosen in units.items():
        statistics = result[name].statistics
        active_share, mean_max, selectivity = statistics.active_share, statistics.mean_max, statistics.selectivity
        for unit in chosen:
            unit_selectivity = selectivity[unit].item()
            yield (
                name,
                unit,
                f"{active_share[unit].item():.6g}",
                f"{mean_max[unit].item():.6g}",
                "" if math.isnan(unit_selectivity) else f"{unit_selectivity:.6g}",
                *statistics.histogram[unit].tolist(),
            )


def _encode(columns: Sequence[str], rows: Iterable[Row]) -> bytes:
    """A table as CSV with one-character line ends."""
    lines: list[str] = []
    # Before Python 3.13, csv quotes a carriage return in a field only if the line terminator contains one. So lines are
    # terminated by CR LF, of which the CR is removed.
    output = SimpleNamespace(write=lambda line: lines.append(line.removesuffix("\r\n") + "\n"))
    writer = csv.writer(output, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows(row.values() for row in rows)
    return "".join(lines).encode(errors="surrogateescape")


def read_table(file: Path) -> list[Row]:
    """The rows of a CSV table.

    Raises `DeconvnetError` for what is no regular file, or for one larger than any atlas has.
    """
    check_file(file)
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as opened:
        return list(csv.DictReader(opened))


def _read_arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of classes.npz. Raises `DeconvnetError` as `read_table` does."""
    check_file(file)
    with ZipFile(file) as archive:
        if sum(member.file_size for member in archive.infolist()) > _MAX_BYTES:
            raise _too_large(file)
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def check_file(file: Path) -> None:
    """Raise `DeconvnetError` for what is no regular file, such as a pipe, which would never end, or for one too large."""
    if not file.is_file():
        raise DeconvnetError(f"There is no file {file}, so this is no whole atlas: make it again.")
    if file.stat().st_size > _MAX_BYTES:
        raise _too_large(file)


def _too_large(file: Path) -> DeconvnetError:
    return DeconvnetError(f"{file} is larger than {_MAX_BYTES // 2**20} MiB, and no table of an atlas is.")
