"""Errors of networks, against plain loops: views, classes, ensembles, processes; the paper's table."""

import json
import os
import shutil
import socket
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from deconvnet.data import Preprocessing, find_images, imagenet_classes, pack, read_image
from deconvnet.data.packed import open_packed
from deconvnet.data.transforms import per_channel
from deconvnet.distributed import Processes
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.experiments.table2_errors import Evaluation, evaluate
from deconvnet.experiments.table2_errors.compute import mean_probabilities
from deconvnet.experiments.table2_errors.paper_table import TABLE_2
from deconvnet.experiments.table2_errors.result import ErrorRate, NetworkErrors
from deconvnet.models import Network
from oracles.plain_ten_views import probabilities_of, wrong_of

FOLDERS = ("ant", "bee", "cat")


def network_of(classes, seed=0, resize=40, crop=32, outputs=None):
    """A network that depends on positions in a view, with a mean image that is not symmetric. It is in training mode."""
    torch.manual_seed(seed)
    conv = nn.Conv2d(3, 4, 5, stride=3)
    map_size = (crop - 5) // 3 + 1
    last = nn.Linear(4 * map_size**2, outputs or len(classes))
    nn.init.normal_(last.weight, std=0.05)
    preprocessing = Preprocessing(resize, crop, 255.0, 255 * torch.rand(3, crop, crop), per_channel((50.0, 60.0, 70.0)))
    module = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Dropout(0.9), last)
    names = None if classes is None else [(id, f"name of {id}") for id in classes]
    return Network(module, preprocessing, name="small", weights=f"seed {seed}", classes=names)


#: The folders' classes in another order, among others.
TWELVE = ("x0", "cat", "x1", "x2", "x3", "ant", "x4", "x5", "x6", "x7", "bee", "x8")


@pytest.fixture
def photos(photo_folder):
    (photo_folder / "notes.txt").unlink()
    return find_images(photo_folder)


def readable(photos):
    return [(index, read_image(photos.file(index))) for index in range(len(photos)) if "broken" not in photos.paths[index]]


@pytest.mark.parametrize("views", [1, 10])
def test_errors_are_those_of_a_plain_loop(photos, views):
    nets = [network_of(TWELVE, seed) for seed in (1, 2, 3)]
    result = evaluate(nets, photos, views, batch_size=5)
    targets = [TWELVE.index(photos.labels[index]) for index, _ in readable(photos)]
    for net in nets:
        net.module.eval()
    probabilities = [[probabilities_of(net, image, views) for _, image in readable(photos)] for net in nets]
    probabilities.append([np.mean(by_network, axis=0) for by_network in zip(*probabilities, strict=True)])
    expected = [wrong_of(by_image, targets) for by_image in probabilities]
    assert len(set(expected)) > 2  # otherwise mixing up networks would go unnoticed
    assert [(errors.top1.errors, errors.top5.errors) for errors in result.networks_and_ensemble] == expected
    assert result.image_count == len(targets) == 18
    assert list(result.skipped) == ["bee/broken.jpg"]
    assert result.ensemble is result.networks_and_ensemble[-1]


@pytest.mark.parametrize("views", [1, 10])
@pytest.mark.parametrize("crop", [31, 32])
def test_probabilities_are_means_over_the_views(photos, views, crop):
    net = network_of(TWELVE, crop=crop)
    squares = [image.resize((40, 40)) for _, image in readable(photos)]
    pixels = squares if views == 10 else [net.preprocessing.view(square) for square in squares]
    probabilities = mean_probabilities(net, torch.from_numpy(np.stack(pixels)), views)
    net.module.eval()
    expected = [probabilities_of(net, square, views) for square in squares]
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)


def test_one_view_is_what_the_network_is_shown_everywhere(photos):
    net = network_of(TWELVE)
    pixels = np.stack([np.asarray(net.preprocessing.view(image)) for _, image in readable(photos)])
    inputs = torch.stack([net.preprocess(image) for _, image in readable(photos)])
    np.testing.assert_allclose(mean_probabilities(net, torch.from_numpy(pixels), 1), net.probabilities(inputs), atol=1e-7)


def test_a_packed_set_and_a_folder_above_are_judged_alike(photos, tmp_path):
    net = network_of(TWELVE, resize=256, crop=48)
    pack({"": photos}, tmp_path / "packed")
    pack({"val": photos}, tmp_path / "sets")
    shutil.copytree(photos.root, tmp_path / "both" / "val")
    shutil.copytree(photos.root / "ant", tmp_path / "both" / "train" / "dog")
    folders = (photos.root, tmp_path / "packed", tmp_path / "sets", tmp_path / "both", tmp_path / "both" / "val")
    errors = [evaluate([net], folder, 10).networks for folder in folders]
    assert errors == errors[:1] * len(folders)
    assert evaluate([net], tmp_path / "both").digest == photos.digest
    assert evaluate([net], tmp_path / "sets").skipped == {}  # left out while packing


def test_networks_of_different_sizes_are_averaged(photos):
    nets = [network_of(TWELVE, 1), network_of(TWELVE, 2, crop=28), network_of(TWELVE, 3, resize=50)]
    together = evaluate(nets, photos)
    assert together.networks == tuple(evaluate([net], photos).networks[0] for net in nets)
    probabilities = [
        [probabilities_of(net, image, 10) for _, image in readable(photos)] for net in nets if net.module.eval()
    ]
    targets = [TWELVE.index(photos.labels[index]) for index, _ in readable(photos)]
    expected = wrong_of([np.mean(by_network, axis=0) for by_network in zip(*probabilities, strict=True)], targets)
    assert (together.ensemble.top1.errors, together.ensemble.top5.errors) == expected


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batches_do_not_matter(photos, batch_size):
    nets = [network_of(TWELVE, seed) for seed in (1, 2)]
    assert evaluate(nets, photos, batch_size=batch_size, workers=2) == evaluate(nets, photos)


@pytest.mark.parametrize(
    ("wrong", "photos", "low", "high"),
    [  # by Newcombe 1998, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_intervals_are_wilsons(wrong, photos, low, high):
    assert ErrorRate(wrong, photos).interval == pytest.approx((low, high), abs=5e-5)


def test_classes_are_matched_by_id_among_all_of_the_networks(photos):
    class Constant(nn.Module):
        """Always predicts class number `number`."""

        def __init__(self, number, count):
            super().__init__()
            self.scores = nn.Parameter(nn.functional.one_hot(torch.tensor(number), count) * 5.0)

        def forward(self, x):
            return (x.relu() * 0).mean((1, 2, 3))[:, None] + self.scores

    preprocessing = network_of(TWELVE).preprocessing

    def wrong(number, classes, count=12):
        classes = None if classes is None else [(id, "") for id in classes]
        errors = evaluate([Network(Constant(number, count), preprocessing, classes=classes)], photos, 1).networks[0]
        return errors.top1.errors, errors.top5.errors, errors.metadata["matched_by"]

    ants, bees, cats = (photos.labels.count(name) for name in FOLDERS)
    bees -= 1  # one is broken
    assert wrong(10, TWELVE) == (18 - bees, ants, "id")  # the four classes after the first include cat and not ant
    assert wrong(0, TWELVE)[0] == 18  # a class that no photo shows is a possible answer, and a wrong one
    assert wrong(2, None, 3) == (18 - cats, 0, "number")
    assert wrong(2, ("", "", ""), 3) == (18 - cats, 0, "number")
    assert wrong(0, ("cat", "bee", "ant", ""), 4) == (18 - cats, 0, "id")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda net: setattr(net, "classifies", False), "has no classifier: pass weights that hold"),
        (lambda net: setattr(net, "classes", (("ant", ""), ("dog", ""))), "knows no class bee, cat, so it cannot be judged"),
        (lambda net: setattr(net, "classes", None), "does not say what its 2 classes are, and .* has 3 of them"),
        (lambda net: setattr(net, "classes", (("ant", ""),)), r"of shape \(1, 2\), not one score for each of 1 classes"),
        (lambda net: setattr(net, "module", net.module[:2]), "has no classifier: pass weights that hold"),
    ],
    ids=["trunk", "missing", "unnamed", "more", "maps"],
)
def test_networks_that_cannot_be_judged(photos, change, sentence):
    net = network_of(("ant", "bee"))
    change(net)
    with pytest.raises(DeconvnetError, match=sentence):
        evaluate([net], photos)


def test_damaged_weights_are_no_right_answers(photos):
    net = network_of(FOLDERS)
    net.module[-1].bias.data.fill_(np.nan)
    with pytest.raises(DeconvnetError, match="gives probabilities that are no numbers"):
        evaluate([net], photos)


def test_photos_that_cannot_judge(photos, tmp_path):
    net = network_of(FOLDERS)
    (tmp_path / "spoilt" / "ant").mkdir(parents=True)
    (tmp_path / "spoilt" / "ant" / "1.jpg").write_text("no photo")
    with pytest.raises(DeconvnetError, match=r"None of the 1 photos in .* can be read: ant/1.jpg"):
        evaluate([net], tmp_path / "spoilt")
    shutil.copy(photos.file(0), photos.root / "loose.png")
    with pytest.raises(DeconvnetError, match=r"photos outside of class folders, such as loose\.png"):
        evaluate([net], photos.root)
    pack({"": find_images(photos.root)}, tmp_path / "packed")
    with pytest.raises(DeconvnetError, match=r"photos outside of class folders, such as loose\.png"):
        evaluate([net], open_packed(tmp_path / "packed"))


def test_views_that_there_are_not(photos, tmp_path):
    with pytest.raises(UsageError, match="There are no 5 views: pass 1 or 10"):
        evaluate([network_of(FOLDERS)], photos, 5)
    with pytest.raises(DeconvnetError, match=r"the whole central square of 32×32 pixels.*pass --views 1"):
        evaluate([network_of(FOLDERS, resize=32)], photos)
    assert evaluate([network_of(FOLDERS, resize=32)], photos, 1).image_count == 18
    large = network_of(FOLDERS, resize=300, crop=260)
    assert evaluate([large], photos).image_count == 18
    pack({"": photos}, tmp_path / "packed")
    with pytest.raises(DeconvnetError, match=r"is shown 260×260 pixels, and the packed set .* has 256×256"):
        evaluate([large], tmp_path / "packed")
    as_large = network_of(TWELVE, resize=256, crop=256)
    assert evaluate([as_large], tmp_path / "packed", 1).image_count == 18


@pytest.mark.parametrize("others", [FOLDERS, tuple(reversed(TWELVE)), (*TWELVE[:-1], "other")])
def test_networks_of_different_classes_are_not_averaged(photos, others):
    pair = [network_of(TWELVE, 1), network_of(others, 2)]
    together = evaluate(pair, photos)
    assert together.ensemble is None
    assert together.networks_and_ensemble == tuple(evaluate([network], photos).networks[0] for network in pair)
    assert "No average: the networks tell different classes apart, or number them differently." in together.lines()
    assert "No average: the networks tell different classes apart, or number them differently." in together.table_2()


def test_five_classes_have_no_top_5_error(photos):
    lines = evaluate([network_of(FOLDERS)], photos).lines()
    assert lines[2].split()[-1] == "–"
    assert "– top-5 says nothing of five classes or fewer." in lines


def test_no_networks_are_refused(photos):
    with pytest.raises(UsageError, match="0 networks"):
        evaluate([], photos)


OWN_FILE = """
import sys
sys.path[:0] = {path!r}
from experiments.test_table2_errors import TWELVE, network_of
def one(): return network_of(TWELVE, 1)
def two(): return network_of(TWELVE, 2)
"""


@pytest.fixture
def own_file(tmp_path):
    (tmp_path / "nets.py").write_text(OWN_FILE.format(path=sys.path))
    return tmp_path / "nets.py"


@pytest.fixture
def run(deconvnet_command):
    return partial(deconvnet_command, "evaluate")


def test_two_processes_say_what_one_says(run, photos, own_file):
    for number in range(8):  # 28 photos: batches of 4 are shared unequally
        shutil.copy(photos.file(number), photos.root / "bee" / f"more-{number}.png")
    (photos.root / "cat" / "spoilt.jpg").write_text("no photo")  # in the other's share
    words = [f"{own_file}:one", f"{own_file}:two", photos.root, "--batch-size", 4, "--json"]
    code, alone, _ = run(*words)
    assert code == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "deconvnet", "evaluate", *map(str, words)],
            env=environment | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    outputs = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0], outputs
    assert outputs[1][0] == ""  # only the first prints
    assert json.loads(outputs[0][0]) == json.loads(alone)
    result = json.loads(alone)
    assert result["data"]["photos"] == 26
    assert [skipped["path"] for skipped in result["skipped"]] == ["bee/broken.jpg", "cat/spoilt.jpg"]
    assert [network["network"] for network in result["networks"]] == ["small (seed 1)", "small (seed 2)"]
    assert result["ensemble"]["top1"]["interval"] == list(ErrorRate(result["ensemble"]["top1"]["wrong"], 26).interval)


def test_processes_that_judge_others_are_told(photos, monkeypatch):
    monkeypatch.setattr(Processes, "broadcast", lambda self, content: b"[]")
    with pytest.raises(DeconvnetError, match="judges other networks or photos than process 1"):
        evaluate([network_of(FOLDERS)], photos, processes=Processes(1, 2))


def test_typed_it_prints_errors_and_the_papers_table(run, photos, own_file):
    code, out, err = run(f"{own_file}:one", photos.root, "--views", 1)
    errors = evaluate([network_of(TWELVE, 1)], photos, 1).networks[0]
    assert code == 0
    assert err.startswith("judging: 19 of 19")
    assert f"{photos.root}: 18 photos of 3 classes, one central view of each. Errors in %:" in out
    assert f"small (seed 1)  {errors.top1}  {errors.top5}" in " ".join(out.split("\n")).replace("   ", "  ")
    assert "1 photos could not be read and were skipped:\n  bee/broken.jpg" in out
    code, out, _ = run(f"{own_file}:one", f"{own_file}:two", photos.root, "--table")
    lines = out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:14]] == [row.model for row in TABLE_2]
    assert lines[8].split() == ["1", "convnet", "as", "Fig.", "3", "38.4", "16.5", "–", "ImageNet", "2012"]
    assert lines[9].split()[-5:] == ["36.7", "15.3", "15.3", "ImageNet", "2012"]
    assert all(line.endswith(f"{photos.root} †") for line in lines[14:17])
    assert lines[16].startswith("2 networks averaged")
    assert "These are other photos, so the errors do not compare with the paper's." in out


def test_the_papers_table_as_json(run, photos, own_file):
    code, out, _ = run(f"{own_file}:one", photos.root, "--views", 1, "--table", "--json")
    rows = json.loads(out)["paper_table_2"]
    assert (code, len(rows)) == (0, 13)
    assert rows[7] == {"model": "1 convnet as Fig. 3", "val_top1": 38.4, "val_top5": 16.5, "test_top5": None}


def test_imagenet_itself_is_known_by_size_and_classes():
    ids = tuple(id for id, _ in imagenet_classes())
    errors = NetworkErrors("net", ErrorRate(1, 50_000), ErrorRate(0, 50_000), 1000)
    for count, classes, same in ((50_000, ids, True), (49_999, ids, False), (50_000, ids[:10], False)):
        text = "\n".join(Evaluation("val", "", classes, 10, count, {}, (errors,), None).table_2())
        assert ("do not compare" in text) is not same


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["zfnet:random"], 2, "Two things are needed: a network, or more, and last the photos: NETWORK… DATA."),
        (["zfnet:random", "nowhere"], 1, "There is no file or folder nowhere"),
        (["zfnet:random", "FOLDER"], 1, "knows no class ant, bee, cat"),
        (["FILE:one", "FOLDER", "--views", "2"], 2, "There are no 2 views: pass 1 or 10"),
    ],
)
def test_errors_are_one_sentence(run, photos, own_file, words, code, sentence):
    words = [word.replace("FOLDER", str(photos.root)).replace("FILE", str(own_file)) for word in words]
    exit_code, out, err = run(*words)
    assert (exit_code, out) == (code, "")
    assert sentence in err


@pytest.mark.data
def test_photos_of_imagenet_are_found_in_their_classes(data):
    ids = [id for id, _ in imagenet_classes()]
    result = evaluate([network_of(ids)], data / "imagenet_sample", 1)
    assert result.image_count == 1000
    assert result.networks[0].metadata["matched_by"] == "id"
    assert 0.97 < result.networks[0].top1.rate <= 1
