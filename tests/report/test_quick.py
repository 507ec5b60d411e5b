"""`reproduce --quick` with thin networks and fewer views: what it makes, and what it reports as missing, and why."""

import json
import re

import pytest

from deconvnet.report.paper_claims import SECTIONS
from helpers.thin_networks import use_thin_networks, write_thin_weights

MADE = {"look", "fig-2", "fig-3", "fig-5", "fig-6", "fig-7", "table-3", "sanity"}


@pytest.mark.slow
def test_a_quick_report_needs_nothing(reproduce, tmp_path, monkeypatch, capsys):
    weights = write_thin_weights(tmp_path)
    use_thin_networks(monkeypatch, weights)
    monkeypatch.setattr("deconvnet.demo_images.SCALES", (1.0,))
    monkeypatch.chdir(tmp_path)
    assert reproduce("--quick", "--device", "cpu") == 0
    assert capsys.readouterr().out == "Wrote report/index.html.\n"
    record = json.loads((tmp_path / "report" / "report.json").read_text())
    assert {key.partition("/")[0] for key in record["steps"]} == MADE
    page = (tmp_path / "report" / "index.html").read_text()
    states = dict(re.findall(r'<a href="#([\w-]+)">.*?</a></td><td class="([\w-]+)">', page))
    assert {section.id: states[section.id] for section in SECTIONS} == {
        **dict.fromkeys(MADE, "done"),
        "table-3": "in-part",
        **dict.fromkeys({section.id for section in SECTIONS} - MADE, "not-run"),
    }
    for reason in (
        "The networks were trained before",
        "needs the snapshots of a training",
        "needs photos in which parts are marked",
        "knows no class astronaut",
        "its top-1 error was 17.9% (ten views)",
        "there are sizes and no errors",
    ):
        assert reason in page
    assert "A quick report: " in page
    for name in ("chelsea", "astronaut", "coffee"):
        assert f"report/shown/{name}.png" in page
    steps = record["steps"]
    assert reproduce("--quick", "--device", "cpu") == 0
    assert json.loads((tmp_path / "report" / "report.json").read_text())["steps"] == steps
