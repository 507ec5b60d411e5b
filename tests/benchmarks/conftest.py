"""Photos, and what runs a benchmark, for all tests of them."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FIELDS = {"benchmark", "arguments", "rows", "goals", "found", "machine"}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Nine JPEGs of several shapes in two classes; one more is turned, which torchvision does not see."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for number in range(10):
        label = folder / ("ant", "bee")[number % 2]
        label.mkdir(exist_ok=True)
        coarse = random.integers(0, 256, (6 + number, 9, 3), dtype=np.uint8)
        exif = Image.Exif()
        exif[0x0112] = 6 if number == 9 else 1
        Image.fromarray(coarse).resize((270, 180 + 30 * number)).save(label / f"{number}.jpg", quality=95, exif=exif)
    return folder


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a benchmark with some options and returns what it wrote."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def run(name, **options):
        out = tmp_path / "result.json"
        importlib.import_module(name).main(**options, out=out)
        text = out.read_text()
        result = json.loads(text)
        assert text.endswith("}\n")
        assert set(result) == FIELDS
        assert result["benchmark"] == name
        for row in result["rows"]:
            rate = row["per_second"]
            assert 0 < rate["lowest"] <= rate["median"] <= rate["highest"]
        return result

    return run
