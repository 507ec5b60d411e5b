"""docs/checked-networks.md shows what `benchmarks/check_catalogue.py` found."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from check_catalogue import NAMES, RESULTS, page  # noqa: E402

PAGE = ROOT / "docs" / "checked-networks.md"


def test_the_page_shows_the_results():
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    how = f"python benchmarks/check_catalogue.py --page > {PAGE.relative_to(ROOT)}"
    assert PAGE.read_text(encoding="utf-8") == page(results), how


def test_each_network_was_checked_and_none_is_wrong():
    found = json.loads(RESULTS.read_text(encoding="utf-8"))["networks"]
    assert set(found) == set(NAMES)
    assert [name for name, result in found.items() if result["verdict"] == "wrong"] == []
    assert all(result["reason"] for result in found.values() if result["verdict"] != "exact")
