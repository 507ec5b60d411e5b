"""`reproduce`: the commands it runs, resuming after a kill, and what it reports as missing or failed."""

import json
import re
import shlex
import shutil

import pytest

from deconvnet.errors import DeconvnetError
from deconvnet.progress import duration
from deconvnet.report.paper_claims import SECTIONS
from helpers.killing import files
from helpers.reporting import write_report_inputs
from helpers.small_training import write_photos
from helpers.thin_networks import use_thin_networks, write_thin_weights

ALL = ["look", "fig-2", "fig-3", "fig-5", "fig-6", "fig-7", "table-1", "table-2", "table-3", "sanity"]


class _Killed(BaseException):
    pass


def _record(out):
    return json.loads((out / "report.json").read_text())


def test_every_part_that_the_data_allows_is_made_in_the_papers_order(report):
    keys = list(_record(report)["steps"])
    assert list(dict.fromkeys(key.partition("/")[0] for key in keys)) == ALL
    for file in (
        "look/alexnet.png",
        "look/zfnet.png",
        "fig-2/alexnet/atlas.json",
        "fig-2/zfnet/figure-conv2.png",
        "fig-3/zfnet.json",
        "fig-5/alexnet/invariance.png",
        "fig-6/both/filters.png",
        "fig-7/zfnet/occlusion.png",
        "table-1/alexnet/correspondence.json",
        "table-2/evaluation.json",
        "table-3/sizes.json",
        "sanity/zfnet/sanity.png",
    ):
        assert (report / file).is_file(), file


def test_the_record_says_command_time_machine_and_versions_of_each(report):
    for entry in _record(report)["steps"].values():
        assert entry["command"].startswith("deconvnet ")
        assert entry["seconds"] >= 0
        assert entry["estimated"] > 0
        assert re.search(r"\d+ cores", entry["hardware"])
        assert {"python", "deconvnet", "torch"} <= set(entry["versions"])


def test_the_command_on_the_page_makes_the_same_again(report, run_deconvnet, tmp_path):
    for key, file in (("fig-5/zfnet", "invariance.json"), ("sanity/alexnet", "sanity.json")):
        words = shlex.split(_record(report)["steps"][key]["command"])
        out = tmp_path / key.replace("/", "-")
        words[words.index("--out") + 1] = str(out)
        assert words[0] == "deconvnet"
        assert run_deconvnet(*words[1:]) == 0
        assert json.loads((out / file).read_text()) == json.loads((report / key / file).read_text())


def test_what_is_done_is_not_run_again_and_what_is_lost_is(report, reproduce, arguments, tmp_path):
    out = tmp_path / "report"
    shutil.copytree(report, out)
    words = [str(word) for word in arguments]
    record = _record(out)
    before = files(out)
    shutil.rmtree(out / "fig-7")
    del record["steps"]["sanity/zfnet"]["seconds"]  # killed after the command had finished, and before that was noted
    (out / "report.json").write_text(json.dumps(record))
    assert reproduce(*words, "--out", out) == 0
    steps, old = _record(out)["steps"], record["steps"]
    assert {key for key in old if steps[key] != old[key]} == {"fig-7/alexnet", "fig-7/zfnet"}
    assert "seconds" not in steps["sanity/zfnet"]
    assert set(files(out)) == set(before)


def test_a_killed_report_goes_on_with_the_command_that_was_killed(reproduce, arguments, tmp_path, monkeypatch):
    from deconvnet.cli import reproduce as reproducing

    out, run, ran = tmp_path / "report", reproducing._run, []

    def killed(words):
        ran.append(words[0])
        if len(ran) in (1, 4):  # in the very first, and in a later one
            raise _Killed
        return run(words)

    monkeypatch.setattr(reproducing, "_run", killed)
    for _ in range(2):
        with pytest.raises(_Killed):
            reproduce(*arguments, "--out", out, "--only", "look,fig-3")
        assert "Not run yet" in (out / "index.html").read_text()
    assert ran == ["look", "look", "look", "networks"]
    assert reproduce(*arguments, "--out", out, "--only", "look,fig-3") == 0
    assert ran == ["look", "look", "look", "networks", "networks", "networks"]
    page = (out / "index.html").read_text()
    assert "Not run yet" not in page
    assert page.count("Left out by --only") > 5


def test_a_command_that_fails_is_named_and_the_others_go_on(reproduce, arguments, tmp_path, monkeypatch, capsys):
    from deconvnet.cli import reproduce as reproducing

    out, run = tmp_path / "report", reproducing._run

    def fails(words):
        if words[0] == "look":
            raise DeconvnetError("The photo has <vanished>.")
        return run(words)

    with monkeypatch.context() as patch:
        patch.setattr(reproducing, "_run", fails)
        assert reproduce(*arguments, "--out", out, "--only", "look,fig-3") == 1
    output = capsys.readouterr()
    assert "look/alexnet failed: The photo has <vanished>." in output.out
    assert "2 commands failed; the same command runs what failed again." in output.err
    page = (out / "index.html").read_text()
    assert "The photo has &lt;vanished&gt;." in page
    assert "seconds" in _record(out)["steps"]["fig-3/zfnet"]
    assert reproduce(*arguments, "--out", out, "--only", "look,fig-3") == 0
    assert "vanished" not in (out / "index.html").read_text()


def test_a_plan_runs_nothing_and_says_what_is_left_out(reproduce, arguments, tmp_path, capsys):
    out = tmp_path / "report"
    assert reproduce(*arguments, "--out", out, "--plan") == 0
    assert not out.exists()
    output = " ".join(capsys.readouterr().err.split())
    for section in SECTIONS:
        assert f"{section.source} {section.title.split()[0]}" in output
    assert "together" in output
    assert "MB of disk" in output
    assert "pass `--train paper`" in output


def test_a_plan_says_itself_as_json_and_counts_what_is_left(report, reproduce, arguments, capsys):
    assert reproduce(*arguments, "--out", report, "--plan", "--json") == 0
    parts = {part["part"]: part for part in json.loads(capsys.readouterr().out)}
    assert list(parts) == [section.id for section in SECTIONS]
    assert all(part["commands"] == [] and part["bytes"] == part["seconds"] == 0 for part in parts.values())
    assert "needs the snapshots" in parts["fig-4"]["missing"][0]


def test_a_folder_of_ones_own_is_left_alone(reproduce, arguments, tmp_path, capsys):
    (tmp_path / "mine" / "photos").mkdir(parents=True)
    (tmp_path / "mine" / "index.html").write_text("my page")
    before = files(tmp_path)
    for words in (["--quick"], arguments):
        assert reproduce(*words, "--out", tmp_path / "mine", "--only", "fig-3") == 2
        assert "exists already" in capsys.readouterr().err
    assert files(tmp_path) == before


def test_bad_networks_and_full_disks_leave_nothing(reproduce, arguments, tmp_path, monkeypatch, capsys):
    out = tmp_path / "report"
    assert reproduce("--quick", "--alexnet", "nonsense", "--out", out) == 2
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    assert reproduce(*arguments, "--out", out) == 1
    assert "MB left: choose another --out" in capsys.readouterr().err
    assert not out.exists()


def test_other_landmarks_and_classes_under_the_same_names_are_other_inputs(reproduce, tmp_path, capsys):
    write_report_inputs(tmp_path)
    networks, landmarks = tmp_path / "networks.py", tmp_path / "faces" / "parts.json"
    arguments = [
        tmp_path / "photos",
        "--alexnet",
        f"{networks}:one",
        "--zfnet",
        f"{networks}:other",
        "--landmarks",
        landmarks,
    ]
    arguments += ["--out", tmp_path / "report", "--only", "fig-3"]
    assert reproduce(*arguments) == 0
    for file, before, after, name in ((landmarks, "36", "37", "landmarks"), (networks, "bee", "wasp", "networks")):
        text = file.read_text()
        file.write_text(text.replace(before, after))
        assert reproduce(*arguments) == 2
        assert f"a report with other {name}" in capsys.readouterr().err
        file.write_text(text)
    assert reproduce(*arguments) == 0


def test_photos_that_cannot_be_read_are_not_shown(reproduce, arguments, input_folder, tmp_path):
    shutil.copytree(input_folder / "photos" / "val", tmp_path / "photos")
    for file in sorted((tmp_path / "photos" / "n0").iterdir()):
        file.write_bytes(b"no photo")
    out = tmp_path / "report"
    assert reproduce(tmp_path / "photos", *arguments[1:5], "--out", out, "--only", "fig-5") == 0
    paths = json.loads((out / "fig-5" / "alexnet" / "invariance.json").read_text())["images"]["paths"]
    assert len(paths) == 5
    assert not any(path.startswith("n0/") for path in paths)


def test_what_is_damaged_is_named(reproduce, arguments, tmp_path):
    out = tmp_path / "report"
    assert reproduce(*arguments, "--out", out, "--only", "fig-3") == 0
    (out / "fig-3" / "zfnet.json").write_text("{")
    assert reproduce(*arguments, "--out", out, "--only", "fig-3") == 0
    assert "fig-3/zfnet.json is damaged" in (out / "index.html").read_text()


def test_a_report_of_other_things_is_refused(report, reproduce, arguments, input_folder, capsys):
    before = files(report)
    swapped = ["--zfnet" if word == "--alexnet" else "--alexnet" if word == "--zfnet" else word for word in arguments]
    for words, name in (
        (swapped, "networks"),
        ([*arguments, "--seed", 1], "seeds"),
        (arguments[:-4] + arguments[-2:], "landmarks"),
    ):
        assert reproduce(*words, "--out", report) == 2
        assert f"holds a report with other {name}" in capsys.readouterr().err
    assert files(report) == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "takes DATA, a folder of photos, or --quick"),
        (["photos", "--quick"], "takes DATA, a folder of photos, or --quick"),
        (["photos", "--only", "fig-9"], "A report has no part 'fig-9'; there are training, look, fig-2"),
        (
            ["photos", "--train", "paper", "--alexnet", "alexnet2012:random"],
            "leave --quick, --alexnet, --zfnet and --run out",
        ),
        (["photos", "--train", "paper"], "There is no folder photos/train"),
        (["photos", "--run", "faces"], "faces is no training run"),
        (["photos", "--landmarks", "no.json"], "no.json"),
        (["nothing"], "There is no file or folder nothing"),
        (["photos", "--out", "faces"], "faces exists already"),
        (["--quick", "--alexnet", "nonsense", "--plan"], "nonsense"),
    ],
)
def test_wrong_use_is_one_sentence_and_leaves_nothing(words, sentence, reproduce, input_folder, monkeypatch, capsys):
    monkeypatch.chdir(input_folder)
    before = files(input_folder)
    assert reproduce(*words) in (1, 2)
    output = capsys.readouterr().err
    assert sentence in output
    assert output.count("\n") == 1
    assert files(input_folder) == before


def test_networks_that_cannot_be_judged_are_named_with_the_reason(input_folder, reproduce, tmp_path):
    out = tmp_path / "report"
    networks = [
        "--alexnet",
        f"{input_folder / 'networks.py'}:one",
        "--zfnet",
        f"{input_folder / 'networks.py'}:knows_nothing",
    ]
    for name in ("n0", "n1", "n2"):
        (tmp_path / "photos" / f"x{name}").mkdir(parents=True)
        for file in (input_folder / "photos" / "val" / name).iterdir():
            shutil.copy(file, tmp_path / "photos" / f"x{name}")
    assert reproduce(tmp_path / "photos", *networks, "--out", out, "--only", "table-2") == 0
    page = (out / "index.html").read_text()
    assert "one (random) knows no class xn0, xn1, xn2" in page
    assert "stranger (random) knows no class xn0, xn1, xn2" in page
    assert not (out / "table-2").exists()


def test_durations_are_said_as_people_say_them():
    output = [duration(seconds) for seconds in (3.4, 99, 130, 5400, 7200, 86400 * 12)]
    assert output == ["3 s", "99 s", "2 min", "90 min", "2.0 hours", "12 days"]


RECIPE = """
epochs = 1
batch_size = 11
learning_rate = 1e-3
initial = "he"
deviation = 58.0

[network]
hidden = 8
"""


@pytest.mark.slow
def test_networks_can_be_trained_for_the_report(reproduce, tmp_path, monkeypatch):
    use_thin_networks(monkeypatch, write_thin_weights(tmp_path))
    write_photos(tmp_path / "photos")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    out = tmp_path / "report"
    arguments = [tmp_path / "photos", "--out", out, "--train", tmp_path / "recipe.toml", "--device", "cpu"]
    assert reproduce(*arguments, "--only", "fig-4,table-2") == 0
    steps = _record(out)["steps"]
    assert list(steps) == [
        "training/alexnet2012",
        "training/zfnet",
        "fig-4/alexnet2012",
        "fig-4/zfnet",
        "table-2/evaluation",
    ]
    judged = json.loads((out / "table-2" / "evaluation.json").read_text())
    assert [network["network"].partition(" ")[0] for network in judged["networks"]] == ["alexnet2012", "zfnet"]
    assert judged["ensemble"]["top1"]["wrong"] <= 9
    page = (out / "index.html").read_text()
    assert "alexnet2012, trained for this report" in page
    assert "settled in zfnet" in page
    words = shlex.split(_record(out)["steps"]["fig-4/zfnet"]["command"])
    assert words[:3] == ["deconvnet", "evolve", str(out / "runs" / "zfnet")]
