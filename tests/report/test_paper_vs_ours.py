"""The paper's numbers next to ours: each cell is what the paper prints, or what a command wrote."""

import json
from pathlib import Path

import pytest

from deconvnet.report.paper_vs_ours import comparison_tables, network_names, result_findings

FIGURES = Path(__file__).parents[2] / "docs" / "figures"


def _figure(name):
    return json.loads((FIGURES / f"{name}.json").read_text())


def test_fig_2_has_the_patches_that_the_paper_measures():
    def atlas(name, widths):
        layers = [{"name": f"conv{n}", "picture": {"width": width}} for n, width in enumerate(widths, 1)]
        return {"network": {"full_name": f"{name} (weights)"}, "layers": layers}

    results = {"alexnet": atlas("a", (11, 51, 99, 131, 163)), "zfnet": atlas("z", (7, 27, 75, 107, 139))}
    (table,) = comparison_tables("fig-2", results)
    assert table.head == ("layer", "paper", "a", "z")
    assert table.is_paper_column == [False, True, False, False]
    assert [row[1] for row in table.rows] == [row[3] for row in table.rows] == ["7", "27", "75", "107", "139"]
    assert table.rows[1] == ("conv2", "27", "51", "27")


def test_fig_3_has_the_networks_that_are_shown():
    layers = {
        "alexnet2012": {"conv1": [96, 55, 55]},
        "zfnet": {"conv1": [96, 110, 110], "fc6": [192]},
        "mine": {"a#1": [4, 2, 2]},
    }
    (table,) = comparison_tables("fig-3", {}, layers)
    assert table.head == ("layer", "paper: ZFNet", "alexnet2012", "zfnet", "mine")
    assert table.rows[0] == ("conv1", "96 × 110 × 110", "96 × 55 × 55", "96 × 110 × 110", "–")
    assert next(row for row in table.rows if row[0] == "fc6")[1:] == ("4,096", "–", "192", "–")
    assert table.rows[-1] == ("a#1", "–", "–", "–", "4 × 2 × 2")


def test_networks_of_one_name_are_told_apart():
    def atlas(name):
        return {"network": {"full_name": name}, "layers": [{"name": "conv1", "picture": {"width": 7}}]}

    (table,) = comparison_tables("fig-2", {"alexnet": atlas("n (seed 0)"), "zfnet": atlas("n (seed 1)")})
    assert table.head[2:] == ("n (seed 0)", "n (seed 1)")
    (table,) = comparison_tables("fig-2", {"alexnet": atlas("n (seed 0)"), "zfnet": atlas("n (seed 0)")})
    assert table.head[2:] == ("n (seed 0) [alexnet]", "n (seed 0) [zfnet]")


def test_fig_4_says_when_layers_settled():
    (table,) = comparison_tables("fig-4", {"zfnet": _figure("fig4-zfnet")})
    assert table.head[2:] == ("settled in zfnet", "likeness to the end at epochs 1, 2, 5, 10, 20")
    assert [row[2] for row in table.rows] == ["epoch 10", *["epoch 20"] * 4]
    assert table.rows[4][1] == "upper: after 40 to 50 epochs"
    assert table.rows[0][3].split(", ")[2] == "0.89"


def test_fig_5_has_means_over_photos():
    invariance = _figure("fig5-zfnet")
    (table,) = comparison_tables("fig-5", {"zfnet": invariance})
    row = next(row for row in table.rows if row[0] == "translation")
    curves = invariance["curves"]["translation"]
    photos, values = len(curves["first"]), range(len(curves["values"]))
    first = [sum(curves["first"][photo][value] for photo in range(photos)) / photos for value in values]
    likely = [sum(curves["probability"][photo][value] for photo in range(photos)) / photos for value in values]
    unmoved, four_up, four_down = (curves["values"].index(value) for value in (0, -4, 4))
    assert row[2] == f"{(first[four_up] + first[four_down]) / 2 / max(first):.0%}"
    assert row[4:] == (f"{likely[unmoved]:.0%}", f"{min(likely):.0%}")
    curves["first"] = [[0.0] * len(values)] * photos
    curves["probability"] = None
    (table,) = comparison_tables("fig-5", {"zfnet": invariance})
    row = next(row for row in table.rows if row[0] == "translation")
    assert (row[2], *row[4:]) == ("nothing changes", "–", "–")


def test_fig_6_has_each_finding_with_its_networks():
    comparison = _figure("fig6")
    (table,) = comparison_tables("fig-6", {"both": comparison})
    assert [row[:2] for row in table.rows] == [(finding["paper"], finding["here"]) for finding in comparison["findings"]]
    assert [row[2] for row in table.rows] == [*["no difference"] * 3, "alexnet2012", "alexnet2012", "neither"]


def test_fig_7_has_the_papers_colour_bars_and_what_our_occluder_does():
    occlusion = _figure("fig7-zfnet")
    (table,) = comparison_tables("fig-7", {"zfnet": occlusion})
    assert table.rows[:3] == (
        ("Pomeranian", "the paper's", "–", "0.9", "0.1"),
        ("car wheel", "the paper's", "–", "0.25", "0.05"),
        ("Afghan hound", "the paper's", "–", "0.7", "0.1"),
    )
    assert table.paper_row_count == 3
    photo, row = occlusion["photos"][0], table.rows[3]
    assert row[0] == f"{photo['path']}: {photo['class']} (its own guess)"
    least = min(value for line in photo["activation"] for value in line)
    assert row[2] == f"{least / photo['whole_activation']:.0%}"
    assert row[4] == f"{min(value for line in photo['probability'] for value in line):.2f}"


def test_fig_7_of_a_trunk_has_no_probabilities():
    (table,) = comparison_tables("fig-7", {"alexnet": _figure("fig7-alexnet2012")})
    assert {row[3:] for row in table.rows[3:]} == {("–", "–")}


def test_table_1_has_the_papers_parts_and_ours():
    score = {"mean": 0.0711, "deviation": 0.0104}
    result = {
        "network": "zfnet (weights)",
        "scores": {"conv5": {"left eye": score, "mouth": {"mean": 0.2, "deviation": None}}, "fc7": {"left_eye": score}},
        "random": {"conv5": {"mean": 0.077, "deviation": 0.011}, "fc7": {"mean": 0.5, "deviation": 0.1}},
    }
    (table,) = comparison_tables("table-1", {"zfnet": result})
    assert table.head == ("masked", "paper, layer 5", "paper, layer 7", "zfnet, conv5", "zfnet, fc7")
    assert [row[0] for row in table.rows] == ["right eye", "left eye", "nose", "mouth", "random"]
    assert table.rows[1] == ("left eye", "0.069 ± 0.007", "0.068 ± 0.013", "0.071 ± 0.010", "0.071 ± 0.010")
    assert table.rows[3] == ("mouth", "–", "–", "0.200", "–")
    assert table.rows[4] == ("random", "0.107 ± 0.017", "0.073 ± 0.014", "0.077 ± 0.011", "0.500 ± 0.100")


def test_table_2_has_the_papers_errors_and_ours_with_their_photos():
    error = {"error": 0.179, "interval": [0.168, 0.192]}
    top5 = {"error": 0.019, "interval": [0.015, 0.024]}
    network = {"network": "zfnet (Imagenette)", "classes": 10, "top1": error, "top5": top5}
    result = {"data": {"photos": 3925, "classes": 10}, "networks": [network], "ensemble": None}
    (table,) = comparison_tables("table-2", {"evaluation": result})
    assert ("1 convnet as Fig. 3", "ImageNet 2012", "38.4", "16.5") in table.rows
    assert ("the paper's replication of Krizhevsky et al., 1 convnet", "ImageNet 2012", "40.5", "18.1") in table.rows
    ours = ("zfnet (Imagenette)", "3,925 photos of 10 classes", "17.9 (16.8 to 19.2)", "1.9 (1.5 to 2.4)")
    assert table.rows[-1] == ours
    assert table.paper_row_count == len(table.rows) - 1
    network["classes"] = 5
    assert comparison_tables("table-2", {"evaluation": result})[0].rows[-1] == (*ours[:3], "–")


@pytest.mark.parametrize("trained", [False, True])
def test_table_3_has_twelve_networks_trained_or_not(trained, report):
    result = json.loads((report / "table-3" / "sizes.json").read_text())
    if trained:
        errors = {"train_top1": 0.5, "val_top1": 0.25, "val_top5": 0.125}
        rows = [{"label": label, **size, "ours": errors if label == "zfnet" else None} for label, size in result.items()]
        result = {"rows": rows}
    (table,) = comparison_tables("table-3", {"x": result})
    assert len(table.rows) == 12
    row = next(row for row in table.rows if row[0].startswith("zfnet: our model"))
    ours = ("50.0", "25.0", "12.5") if trained else ("–", "–", "–")
    assert row[1:] == ("62.4", "33.1", ours[0], "38.4", ours[1], "16.5", ours[2])
    assert table.rows[0][2:] == ("35.1", "–", "40.5", "–", "18.1", "–")


def test_nothing_is_said_of_what_was_not_run():
    assert comparison_tables("fig-6", {}) == []
    assert comparison_tables("look", {"alexnet": {}}) == []
    assert result_findings(None) == []
    assert network_names(None) == []
