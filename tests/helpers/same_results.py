"""Compare the results of two runs that may round differently."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


def check_same(found: Any, wanted: Any, tolerance: float, place: str = "") -> None:
    """Assert that JSON values are equal, numbers within a tolerance; sentences, which round numbers, are not compared."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), place
        for name in wanted:
            check_same(found[name], wanted[name], tolerance, f"{place}/{name}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), place
        for number, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
            check_same(ours, theirs, tolerance, f"{place}[{number}]")
    elif isinstance(wanted, float) and math.isfinite(wanted):
        assert found == pytest.approx(wanted, rel=tolerance, abs=tolerance), place
    elif not isinstance(wanted, str):
        assert found == wanted, place


def picture_difference(found: Path, wanted: Path) -> float:
    """Mean absolute difference of two pictures' pixels, 0 to 255."""
    with Image.open(found) as ours, Image.open(wanted) as theirs:
        return float(np.abs(np.asarray(ours.convert("RGB"), float) - np.asarray(theirs.convert("RGB"), float)).mean())
