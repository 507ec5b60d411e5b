"""Table 1: against a hand-computed example and the definition."""

import json
from itertools import permutations as orders

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deconvnet import DeconvnetError, UsageError, cli
from deconvnet.experiments import correspond as module
from deconvnet.experiments.correspond import correspond, distances, write_correspondence
from deconvnet.images import find_photos
from deconvnet.networks import Network, torchvision_preprocessing


@pytest.fixture
def folder(tmp_path):
    """Five photos of 60×50 pixels with an eye and a nose each."""
    random, known = np.random.default_rng(0), {}
    (tmp_path / "faces").mkdir()
    for number in range(5):
        coarse = random.integers(0, 256, (8, 9, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((60, 50), Image.Resampling.BICUBIC).save(tmp_path / "faces" / f"{number}.png")
        known[f"{number}.png"] = {"eye": [20 + number, 20], "nose": [38, 30 - number], "size": [60, 50]}
    (tmp_path / "faces.json").write_text(json.dumps(known))
    return tmp_path / "faces"


def change(folder, what):
    file = folder.parent / "faces.json"
    known = json.loads(file.read_text())
    what(known)
    file.write_text(json.dumps(known))


def test_distances_by_hand():
    signs = torch.tensor([[1, 0, -1, 0], [1, -1, -1, 0], [-1, 0, 1, 1]], dtype=torch.int8)
    expected = torch.tensor([[0, 1, 3], [1, 0, 4], [3, 4, 0]], dtype=torch.float64) / 4
    assert torch.equal(distances(signs), expected)


def test_scores_by_hand():
    """Two photos, one part, two random masks, four activations: the part differs in 1 of 4, the random ones in 4 and 2."""
    one = torch.tensor([[1, 0, -1, 0], [1, 1, 1, 1], [0, 0, 1, 1]], dtype=torch.int8)
    other = torch.tensor([[1, -1, -1, 0], [-1, -1, -1, 0], [0, 1, -1, 1]], dtype=torch.int8)
    found = module._scores(torch.stack([one, other]), ["eye"], 1, 2, 4999, np.random.default_rng(0))
    assert (found["eye"].mean, found["eye"].deviation) == (0.25, 0.0)
    assert (found["random"].mean, found["random"].deviation, found["random"].p) == (0.75, 0.25, None)
    apart = distances(torch.cat([one, other]))[:3, 3:]  # all nine ways of taking one mask of each photo
    as_low = float((apart <= 0.25).double().mean())
    assert found["eye"].p == pytest.approx(min(1.0, 2 * as_low), abs=0.03)


def test_a_set_that_is_like_no_other_has_the_smallest_p():
    signs = torch.zeros(6, 11, 30, dtype=torch.int8)
    random = torch.Generator().manual_seed(1)
    signs[:, 1:] = torch.randint(-1, 2, (6, 10, 30), generator=random, dtype=torch.int8)
    signs[:, 0] = 1
    assert module._scores(signs, ["eye"], 1, 10, 999, np.random.default_rng(0))["eye"].p == pytest.approx(2 / 1000)
    same = signs.clone()
    same[:, 0] = torch.randint(-1, 2, (6, 30), generator=random, dtype=torch.int8)
    assert module._scores(same, ["eye"], 1, 10, 999, np.random.default_rng(0))["eye"].p > 0.05


def test_p_is_uniform_where_a_part_is_like_any_other():
    """Of the tests of parts that are random masks, about one in ten has p ≤ 0.1: also with several masks of a part."""
    random, small = torch.Generator().manual_seed(2), 0
    for _ in range(200):
        signs = torch.randint(-1, 2, (4, 8, 12), generator=random, dtype=torch.int8)
        small += module._scores(signs, ["eye"], 2, 6, 99, np.random.default_rng(0))["eye"].p <= 0.1
    assert 8 <= small <= 34


def test_signs_are_those_of_the_definition(small_network, folder):
    result = correspond(small_network, folder, folder.parent / "faces.json", ["conv1", "fc3"], draws=2, permutations=9)
    assert result.mask == round(0.2 * 32)
    assert list(result.scores) == ["conv1", "fc3"]
    pictures = torch.from_numpy(result.pictures)
    assert pictures.shape == (5, 5, 32, 32, 3)
    signs = {name: [] for name in result.scores}
    views = [module._view(small_network, result.photos, index, known) for index, known in enumerate(_read(folder))]
    for number, view in enumerate(views):
        masked = view.x.clone()
        left, top = (int(np.clip(np.rint(value - 3), 0, 26)) for value in view.parts["eye"])
        masked[:, top : top + 6, left : left + 6] = 0
        grey = small_network.preprocessing.pixels(masked[None])[0]
        np.testing.assert_array_equal(result.pictures[number, result.columns.index("eye")], grey)
        for name, found in signs.items():
            before, after = (small_network.activations(x[None], name)[0].flatten().numpy() for x in (view.x, masked))
            found.append(np.sign(np.where(abs(before - after) > 1e-6, before - after, 0)))
    for name, found in signs.items():
        pairs = [np.mean(found[i] != found[j]) for i, j in orders(range(5), 2)]
        score = result.scores[name]["eye"]
        assert score.mean == pytest.approx(np.mean(pairs), abs=2e-3)
        assert score.deviation == pytest.approx(np.std(pairs), abs=2e-3)


def _read(folder):
    return module.read_landmarks(folder.parent / "faces.json").values()


def test_parts_that_are_the_same_everywhere_correspond(tmp_path):
    """Noise everywhere but for an eye that looks the same and fills its mask."""
    random, known = np.random.default_rng(3), {}
    (tmp_path / "faces").mkdir()
    for number in range(6):
        pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        pixels[8:14, 8:14] = 255
        Image.fromarray(pixels).save(tmp_path / "faces" / f"{number}.png")
        known[f"{number}.png"] = {"eye": [11, 11], "nose": [25, 25]}
    (tmp_path / "faces.json").write_text(json.dumps(known))
    network = Network(nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU()), torchvision_preprocessing(32, 32), name="n")
    found = correspond(network, tmp_path / "faces", tmp_path / "faces.json", permutations=999, draws=4, mask=6 / 32)
    scores = next(iter(found.scores.values()))
    assert scores["eye"].p == pytest.approx(2 / 1000)
    assert scores["eye"].mean < scores["nose"].mean / 2
    assert scores["nose"].p == pytest.approx(2 / 1000)  # for its masks lie at one place …
    assert scores["nose"].mean == pytest.approx(scores["random, one place"].mean, rel=0.15)  # … which is all there is to it
    assert scores["random"].mean > 1.2 * scores["nose"].mean


def test_random_masks_lie_off_the_parts_and_inside(small_network, folder):
    for index, known in enumerate(_read(folder)):
        view = module._view(small_network, find_photos(folder), index, known)
        corners = module._corners(view, "photo", 6, 3, 40, np.random.default_rng(0))
        assert corners.shape == (2 * 3 + 40, 2)
        assert corners.min() >= 0
        assert corners.max() <= 26
        for x, y in view.parts.values():
            plain = np.clip(np.rint([y - 3, x - 3]), 0, 26)
            assert (np.abs(corners[6:].numpy() - plain).max(axis=1) >= 6).all()
        eye = np.clip(np.rint([view.parts["eye"][1] - 3, view.parts["eye"][0] - 3]), 0, 26)
        assert (np.abs(corners[:3].numpy() - eye) <= 1).all()  # an eighth of a mask


def test_a_seed_decides(small_network, folder, tmp_path):
    options = {"draws": 3, "masks": 2, "permutations": 99}
    found = [correspond(small_network, folder, tmp_path / "faces.json", **options, seed=seed) for seed in (1, 1, 2)]
    assert found[0].as_json() == found[1].as_json()
    assert found[0].as_json() != found[2].as_json()
    assert list(found[0].scores) == ["conv2", "fc3"]  # the last convolutional and the last hidden one


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        (
            lambda known: known["1.png"].update(eye=[60, 20]),
            r"The eye of .*1\.png is at 60, 20, outside of its 60×50 pixels",
        ),
        (lambda known: known["1.png"].update(nose=[3, -1]), r"outside"),
        (lambda known: known["2.png"].update(size=[61, 50]), r"are of 61×50 pixels, but it has 60×50"),
        (lambda known: [known.pop(f"{number}.png") for number in range(1, 5)], "two or more"),
        (lambda known: known.update({"6.png": known["1.png"]}), r"know 6\.png, which is not in"),
    ],
)
def test_landmarks_that_do_not_fit_the_photos_are_refused(small_network, folder, what, sentence):
    change(folder, what)
    with pytest.raises(DeconvnetError, match=sentence):
        correspond(small_network, folder, folder.parent / "faces.json")


def test_senseless_numbers_are_refused(small_network, folder):
    def run(**options):
        correspond(small_network, folder, folder.parent / "faces.json", **options)

    for options, sentence in (
        ({"mask": 0.0}, "wider than 0"),
        ({"mask": 1.5}, "narrower than the view"),
        ({"masks": 0}, "0 masks are too few"),
        ({"draws": 0}, "0 random masks"),
        ({"permutations": 0}, "0 permutations"),
        ({"layers": ["conv9"]}, "conv9"),
    ):
        with pytest.raises(UsageError, match=sentence):
            run(**options)
    with pytest.raises(DeconvnetError, match="no room for random masks"):
        run(mask=0.9)


def test_it_is_written_and_drawn(small_network, folder, tmp_path, monkeypatch, capsys):
    result = write_correspondence(tmp_path / "out", small_network, folder, tmp_path / "faces.json", permutations=9)
    written = json.loads((tmp_path / "out" / "correspondence.json").read_text())
    assert written == json.loads(json.dumps(result.as_json(), allow_nan=False))
    with Image.open(tmp_path / "out" / "correspondence.png") as picture:
        assert picture.width >= 1000
    assert result.table().row_count == 4 + 4


def test_on_the_command_line(folder, tmp_path, capsys, monkeypatch):
    from deconvnet.networks import ZFNet, ZFNetOptions, save_weights

    zfnet = ZFNet(ZFNetOptions(classes=3, middle=(6, 5, 4), hidden=8)).eval()
    weights = tmp_path / "weights.safetensors"
    save_weights(Network(zfnet, torchvision_preprocessing(256, 224), name="zfnet", weights="none"), weights)
    words = ["correspond", f"zfnet:{weights}", str(folder), str(tmp_path / "faces.json"), "--layers", "conv5"]
    monkeypatch.setattr("sys.argv", ["deconvnet", *words, "--out", str(tmp_path / "out"), "--draws", "2", "--device", "cpu"])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code in (0, None)
    said = capsys.readouterr().out
    assert "conv5" in said
    assert "random" in said
    assert f"Wrote {tmp_path / 'out' / 'correspondence.png'}" in said.replace("\n", "")
