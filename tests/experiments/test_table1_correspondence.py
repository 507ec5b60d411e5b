"""Table 1: against a hand-computed example and the definition."""

import json
from itertools import combinations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deconvnet import DeconvnetError, UsageError, cli
from deconvnet.data import find_images, torchvision_preprocessing
from deconvnet.experiments.table1_correspondence.compute import correspond, write_correspondence
from deconvnet.experiments.table1_correspondence.hamming import (
    distances,
    of_pairs,
    p_value,
    permuted,
)
from deconvnet.experiments.table1_correspondence.landmarks import read_landmarks
from deconvnet.experiments.table1_correspondence.part_crops import moved_corners, part_view, random_corners
from deconvnet.models import Network


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
    np.testing.assert_allclose(distances(signs), np.array([[0, 1, 3], [1, 0, 4], [3, 4, 0]]) / 4, atol=1e-12)
    assert of_pairs(distances(signs)).tolist() == pytest.approx([0.25, 0.75, 1.0])


def test_permutations_by_hand():
    """Two photos, a part and two random masks of each: all nine ways of taking one from each are as frequent."""
    one = torch.tensor([[1, 0, -1, 0], [1, 1, 1, 1], [0, 0, 1, 1]], dtype=torch.int8)
    other = torch.tensor([[1, -1, -1, 0], [-1, -1, -1, 0], [0, 1, -1, 1]], dtype=torch.int8)
    apart = distances(torch.cat([one, other])).reshape(2, 3, 2, 3)
    assert [of_pairs(apart[:, number, :, number]).item() for number in range(3)] == pytest.approx([0.25, 1.0, 0.5])
    null = permuted(apart, 0, range(1, 3), 9000, np.random.default_rng(0))
    expected = sorted(apart[0, a, 1, b] for a in range(3) for b in range(3))
    for value in set(np.round(expected, 6)):
        share = np.mean(np.isclose(expected, value))
        assert np.isclose(null, value).mean() == pytest.approx(share, abs=0.02)


def test_p_values_by_hand():
    null = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9])
    assert p_value(0.5, null) == pytest.approx(2 * 1 / 10)
    assert p_value(2, null) == pytest.approx(2 * 3 / 10)
    assert p_value(9.5, null) == pytest.approx(2 * 1 / 10)
    assert p_value(5, null) == 1.0


def shares_of_small_p(signs_of):
    """How often p ≤ 0.1 in 200 trials; `signs_of` makes signs (photos, places, copies, components)."""
    small = 0
    for trial in range(200):
        signs = signs_of(torch.Generator().manual_seed(trial))
        photos, places, copies, _ = signs.shape
        apart = np.mean([distances(signs[:, :, copy].flatten(0, 1)) for copy in range(copies)], axis=0)
        apart = apart.reshape(photos, places, photos, places)
        null = permuted(apart, 0, range(1, places), 99, np.random.default_rng(trial))
        small += p_value(of_pairs(apart[:, 0, :, 0]).mean(), null) <= 0.1
    return small / 200


def test_p_is_uniform_where_a_part_is_like_any_other():
    def alone(random):
        return torch.randint(-1, 2, (5, 8, 1, 15), generator=random, dtype=torch.int8)

    def with_copies(random):
        """As masks moved by a little are: four in five components stay."""
        place = torch.randint(-1, 2, (5, 8, 1, 15), generator=random, dtype=torch.int8)
        copies = torch.randint(-1, 2, (5, 8, 5, 15), generator=random, dtype=torch.int8)
        return torch.where(torch.rand(copies.shape, generator=random) < 0.2, copies, place)

    assert 0.05 <= shares_of_small_p(alone) <= 0.16
    assert 0.05 <= shares_of_small_p(with_copies) <= 0.16


def test_signs_are_those_of_the_definition(small_network, folder):
    result = correspond(small_network, folder, folder.parent / "faces.json", ["conv1", "fc3"], draws=2, permutations=9)
    assert result.mask == round(0.2 * 32)
    assert list(result.scores) == ["conv1", "fc3"]
    pictures = torch.from_numpy(result.pictures)
    assert pictures.shape == (5, 5, 32, 32, 3)
    signs = {name: [] for name in result.scores}
    views = [part_view(small_network, result.image_set, index, known) for index, known in enumerate(_read(folder))]
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
        pairs = [np.mean(found[i] != found[j]) for i, j in combinations(range(5), 2)]
        score = result.scores[name]["eye"]
        assert score.mean == pytest.approx(np.mean(pairs), abs=2e-3)
        assert score.deviation == pytest.approx(np.std(pairs), abs=2e-3)
        assert score.changed == pytest.approx(np.mean(np.array(found) != 0), abs=2e-3)


def _read(folder):
    return read_landmarks(folder.parent / "faces.json").values()


@pytest.fixture
def noisy_faces(tmp_path):
    """Six photos of noise everywhere but for an eye that looks the same and fills its mask; parts lie at one place."""
    random, known = np.random.default_rng(3), {}
    (tmp_path / "noisy").mkdir()
    for number in range(6):
        pixels = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        pixels[17:23, 17:23] = 255
        Image.fromarray(pixels).save(tmp_path / "noisy" / f"{number}.png")
        known[f"{number}.png"] = {"eye": [20, 20], "nose": [44, 44]}
    (tmp_path / "noisy.json").write_text(json.dumps(known))
    return tmp_path / "noisy"


def test_parts_that_are_the_same_everywhere_correspond_and_places_alone_do_not(noisy_faces):
    preprocessing = torchvision_preprocessing(64, 64)
    network = Network(nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU()), preprocessing, name="n", classifies=False)
    found = correspond(network, noisy_faces, noisy_faces.parent / "noisy.json", permutations=999, draws=4, mask=6 / 64)
    (layer,) = found.scores
    eye, nose = found.scores[layer]["eye"], found.scores[layer]["nose"]
    assert eye.mean < nose.mean / 2
    assert eye.p == nose.p == pytest.approx(2 / 1000)  # for the nose's masks lie at one place, too …
    assert eye.steps == nose.steps > 40
    assert eye.p_moved == pytest.approx(2 / (eye.steps + 1))
    assert nose.p_moved > 0.05  # … but so do the masks it is set beside here, as far as its changes are concerned
    assert nose.mean == pytest.approx(nose.moved, rel=0.1)
    assert found.random[layer].mean > 1.2 * nose.mean


def test_masks_are_moved_alike_in_all_photos(small_network, folder):
    views = [part_view(small_network, find_images(folder), index, known) for index, known in enumerate(_read(folder))]
    found = moved_corners(views, 0, 6)
    assert found
    starts = np.stack([view.corners(6)[0] for view in views])
    for corners in found:
        there = corners[:, 0] >= 0
        assert there.sum() >= 3
        assert len({tuple(step) for step in (corners - starts)[there].tolist()}) == 1
        assert all(view.free(6)[tuple(corner)] for view, corner in zip(views, corners, strict=True) if corner[0] >= 0)


def test_random_masks_lie_off_the_parts_and_inside(small_network, folder):
    for index, known in enumerate(_read(folder)):
        view = part_view(small_network, find_images(folder), index, known)
        corners = random_corners(view, 6, 40, np.random.default_rng(0))
        assert corners.shape == (40, 2)
        assert corners.min() >= 0
        assert corners.max() <= 26
        for x, y in view.parts.values():
            plain = np.clip(np.rint([y - 3, x - 3]), 0, 26)
            assert (np.abs(corners - plain).max(axis=1) >= 6).all()


def test_parts_at_one_point_leave_room_for_random_masks(small_network, folder):
    change(folder, lambda known: [entry.update(nose=entry["eye"]) for entry in known.values()])
    result = correspond(small_network, folder, folder.parent / "faces.json", permutations=9)
    assert result.scores["conv2"]["eye"].mean == result.scores["conv2"]["nose"].mean


def test_two_photos_are_one_pair_which_has_no_deviation(small_network, folder):
    change(folder, lambda known: [known.pop(f"{number}.png") for number in range(2, 5)])
    result = correspond(small_network, folder, folder.parent / "faces.json", ["conv2"], permutations=9)
    score = result.scores["conv2"]["eye"]
    assert score.deviation is None
    assert str(score).startswith(f"{score.mean:.3f} (p = ")
    json.dumps(result.as_json(), allow_nan=False)


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
        (lambda known: known.update({"6.png": known["1.png"]}), r"know 6\.png, but there is no such path below"),
    ],
)
def test_landmarks_that_do_not_fit_the_photos_are_refused(small_network, folder, what, sentence):
    change(folder, what)
    with pytest.raises(DeconvnetError, match=sentence):
        correspond(small_network, folder, folder.parent / "faces.json")


def test_packed_photos_are_refused(small_network, folder, tmp_path):
    from deconvnet.data import pack

    pack({"": find_images(folder)}, tmp_path / "packed")
    with pytest.raises(DeconvnetError, match="is a packed set"):
        correspond(small_network, tmp_path / "packed", folder.parent / "faces.json")


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
    assert result.table().row_count == 2 * 3


def test_on_the_command_line(folder, tmp_path, capsys, monkeypatch):
    from deconvnet.models import ZFNet, ZFNetOptions, save_weights

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
