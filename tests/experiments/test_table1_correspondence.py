"""Table 1: against a hand-computed example and the definition."""

import json
from itertools import combinations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deconvnet import DeconvnetError, UsageError
from deconvnet.data import find_images, torchvision_preprocessing
from deconvnet.experiments.table1_correspondence import correspond, hamming, read_landmarks, write_correspondence
from deconvnet.experiments.table1_correspondence.hamming import hamming_distances, p_value, permutation_means, upper_triangle
from deconvnet.experiments.table1_correspondence.part_crops import (
    PartCrop,
    crop_to_parts,
    random_corners,
    translated_corners,
)
from deconvnet.models import Network


@pytest.fixture
def folder(tmp_path):
    """Five photos of 60×50 pixels with an eye and a nose each."""
    rng, landmarks = np.random.default_rng(0), {}
    (tmp_path / "faces").mkdir()
    for number in range(5):
        coarse = rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((60, 50), Image.Resampling.BICUBIC).save(tmp_path / "faces" / f"{number}.png")
        landmarks[f"{number}.png"] = {"eye": [20 + number, 20], "nose": [38, 30 - number], "size": [60, 50]}
    (tmp_path / "faces.json").write_text(json.dumps(landmarks))
    return tmp_path / "faces"


def edit_landmarks(folder, edit):
    file = folder.parent / "faces.json"
    landmarks = json.loads(file.read_text())
    edit(landmarks)
    file.write_text(json.dumps(landmarks))


def test_distances_by_hand():
    signs = torch.tensor([[1, 0, -1, 0], [1, -1, -1, 0], [-1, 0, 1, 1]], dtype=torch.int8)
    np.testing.assert_allclose(hamming_distances(signs), np.array([[0, 1, 3], [1, 0, 4], [3, 4, 0]]) / 4, atol=1e-12)
    assert upper_triangle(hamming_distances(signs)).tolist() == pytest.approx([0.25, 0.75, 1.0])


def test_permutations_by_hand(monkeypatch):
    """Two photos, a part and two random masks of each: all nine ways of taking one from each are as frequent."""
    first = torch.tensor([[1, 0, -1, 0], [1, 1, 1, 1], [0, 0, 1, 1]], dtype=torch.int8)
    second = torch.tensor([[1, -1, -1, 0], [-1, -1, -1, 0], [0, 1, -1, 1]], dtype=torch.int8)
    distances = hamming_distances(torch.cat([first, second])).reshape(2, 3, 2, 3)
    assert [upper_triangle(distances[:, number, :, number]).item() for number in range(3)] == pytest.approx([0.25, 1.0, 0.5])
    monkeypatch.setattr(hamming, "_VALUES_AT_ONCE", 1000)
    null = permutation_means(distances, 0, range(1, 3), 9000, np.random.default_rng(0))
    expected = sorted(distances[0, a, 1, b] for a in range(3) for b in range(3))
    for value in set(np.round(expected, 6)):
        share = np.mean(np.isclose(expected, value))
        assert np.isclose(null, value).mean() == pytest.approx(share, abs=0.02)


def test_p_values_by_hand():
    null = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9])
    assert p_value(0.5, null) == pytest.approx(2 * 1 / 10)
    assert p_value(2, null) == pytest.approx(2 * 3 / 10)
    assert p_value(9.5, null) == pytest.approx(2 * 1 / 10)
    assert p_value(5, null) == 1.0


def fraction_of_small_p(signs_of):
    """How often p ≤ 0.1 in 200 trials; `signs_of` makes signs (photos, masks, copies, components)."""
    small = 0
    for trial in range(200):
        signs = signs_of(torch.Generator().manual_seed(trial))
        photos, masks, copies, _ = signs.shape
        distances = np.mean([hamming_distances(signs[:, :, copy].flatten(0, 1)) for copy in range(copies)], axis=0)
        distances = distances.reshape(photos, masks, photos, masks)
        null = permutation_means(distances, 0, range(1, masks), 99, np.random.default_rng(trial))
        small += p_value(upper_triangle(distances[:, 0, :, 0]).mean(), null) <= 0.1
    return small / 200


def test_p_is_uniform_where_a_part_is_like_any_other():
    def alone(generator):
        return torch.randint(-1, 2, (5, 8, 1, 15), generator=generator, dtype=torch.int8)

    def with_copies(generator):
        """As masks moved by a little are: four in five components stay."""
        original = torch.randint(-1, 2, (5, 8, 1, 15), generator=generator, dtype=torch.int8)
        copies = torch.randint(-1, 2, (5, 8, 5, 15), generator=generator, dtype=torch.int8)
        return torch.where(torch.rand(copies.shape, generator=generator) < 0.2, copies, original)

    assert 0.05 <= fraction_of_small_p(alone) <= 0.16
    assert 0.05 <= fraction_of_small_p(with_copies) <= 0.16


def test_signs_are_those_of_the_definition(small_network, folder):
    result = correspond(small_network, folder, folder.parent / "faces.json", ["conv1", "fc3"], draws=2, permutations=9)
    assert result.mask_size == round(0.2 * 32)
    assert list(result.scores) == ["conv1", "fc3"]
    pictures = torch.from_numpy(result.pictures)
    assert pictures.shape == (5, 5, 32, 32, 3)
    signs = {name: [] for name in result.scores}
    crops = _crops(small_network, folder)
    for number, crop in enumerate(crops):
        masked = crop.x.clone()
        left, top = (int(np.clip(np.rint(value - 3), 0, 26)) for value in crop.parts["eye"])
        masked[:, top : top + 6, left : left + 6] = 0
        grey = small_network.preprocessing.denormalise(masked[None])[0]
        np.testing.assert_array_equal(result.pictures[number, result.column_titles.index("eye")], grey)
        for name, layer_signs in signs.items():
            before, after = (small_network.activations(x[None], name)[0].flatten().numpy() for x in (crop.x, masked))
            layer_signs.append(np.sign(np.where(abs(before - after) > 1e-6, before - after, 0)))
    for name, layer_signs in signs.items():
        pairs = [np.mean(layer_signs[i] != layer_signs[j]) for i, j in combinations(range(5), 2)]
        score = result.scores[name]["eye"]
        assert score.mean == pytest.approx(np.mean(pairs), abs=2e-3)
        assert score.deviation == pytest.approx(np.std(pairs), abs=2e-3)
        assert score.changed == pytest.approx(np.mean(np.array(layer_signs) != 0), abs=2e-3)


def _crops(network, folder):
    image_set, landmarks = find_images(folder), read_landmarks(folder.parent / "faces.json")
    return [crop_to_parts(network, image_set, index, landmarks[path]) for index, path in enumerate(image_set.paths)]


@pytest.fixture
def noisy_faces(tmp_path):
    """Six photos of noise everywhere but for an eye that looks the same and fills its mask; parts lie at one place."""
    rng, landmarks = np.random.default_rng(3), {}
    (tmp_path / "noisy").mkdir()
    for number in range(6):
        pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        pixels[17:23, 17:23] = 255
        Image.fromarray(pixels).save(tmp_path / "noisy" / f"{number}.png")
        landmarks[f"{number}.png"] = {"eye": [20, 20], "nose": [44, 44]}
    (tmp_path / "noisy.json").write_text(json.dumps(landmarks))
    return tmp_path / "noisy"


def test_parts_that_are_the_same_everywhere_correspond_and_places_alone_do_not(noisy_faces):
    preprocessing = torchvision_preprocessing(64, 64)
    network = Network(nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU()), preprocessing, name="n", classifies=False)
    result = correspond(network, noisy_faces, noisy_faces.parent / "noisy.json", permutations=999, draws=4, mask=6 / 64)
    (layer,) = result.scores
    eye, nose = result.scores[layer]["eye"], result.scores[layer]["nose"]
    assert eye.mean < nose.mean / 2
    assert eye.p == nose.p == pytest.approx(2 / 1000)  # for the nose's masks lie at one place, too …
    assert eye.num_translations == nose.num_translations > 40
    assert eye.p_translated == pytest.approx(2 / (eye.num_translations + 1))
    assert nose.p_translated > 0.05  # … but so do the masks it is set beside here, as far as its changes are concerned
    assert nose.mean == pytest.approx(nose.translated_mean, rel=0.1)
    assert result.random_scores[layer].mean > 1.2 * nose.mean


def test_masks_are_translated_equally_in_all_photos(small_network, folder):
    crops = _crops(small_network, folder)
    translations = translated_corners(crops, 0, 6)
    assert translations
    starts = np.stack([crop.part_corners(6)[0] for crop in crops])
    for corners in translations:
        possible = corners[:, 0] >= 0
        assert possible.sum() >= 3
        assert len({tuple(offset) for offset in (corners - starts)[possible].tolist()}) == 1
        pairs = zip(crops, corners, strict=True)
        assert all(crop.free_corners(6)[tuple(corner)] for crop, corner in pairs if corner[0] >= 0)


def test_random_masks_lie_off_the_parts_and_inside(small_network, folder):
    for crop in _crops(small_network, folder):
        corners = random_corners(crop, 6, 40, np.random.default_rng(0))
        assert corners.shape == (40, 2)
        assert corners.min() >= 0
        assert corners.max() <= 26
        for x, y in crop.parts.values():
            plain = np.clip(np.rint([y - 3, x - 3]), 0, 26)
            assert (np.abs(corners - plain).max(axis=1) >= 6).all()


def test_random_masks_may_lie_wherever_the_object_is():
    """The object is twice as wide as its parts are apart, here 40 pixels: columns 10 to 49 and rows 5 to 44."""
    crop = PartCrop("1.png", torch.zeros(3, 60, 60), {"eye": (20.0, 20.0), "nose": (40.0, 30.0)})
    free = crop.free_corners(5)
    assert free.shape == (56, 56)
    for row in range(56):
        for column in range(56):
            on_object = row >= 5 and row + 5 <= 45 and column >= 10 and column + 5 <= 50
            off_parts = all(abs(row - top) >= 5 or abs(column - left) >= 5 for top, left in crop.part_corners(5).tolist())
            assert free[row, column] == (on_object and off_parts), (row, column)


def test_parts_at_one_point_leave_room_for_random_masks(small_network, folder):
    edit_landmarks(folder, lambda landmarks: [entry.update(nose=entry["eye"]) for entry in landmarks.values()])
    result = correspond(small_network, folder, folder.parent / "faces.json", permutations=9)
    assert result.scores["conv2"]["eye"].mean == result.scores["conv2"]["nose"].mean


def test_two_photos_are_one_pair_which_has_no_deviation(small_network, folder):
    edit_landmarks(folder, lambda landmarks: [landmarks.pop(f"{number}.png") for number in range(2, 5)])
    result = correspond(small_network, folder, folder.parent / "faces.json", ["conv2"], permutations=9)
    score = result.scores["conv2"]["eye"]
    assert score.deviation is None
    assert str(score).startswith(f"{score.mean:.3f} (p = ")
    json.dumps(result.as_json(), allow_nan=False)


def test_a_seed_decides(small_network, folder, tmp_path):
    options = {"draws": 3, "masks": 2, "permutations": 99}
    results = [correspond(small_network, folder, tmp_path / "faces.json", **options, seed=seed) for seed in (1, 1, 2)]
    assert results[0].as_json() == results[1].as_json()
    assert results[0].as_json() != results[2].as_json()
    assert list(results[0].scores) == ["conv2", "fc3"]  # the last convolutional and the last hidden one


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (
            lambda landmarks: landmarks["1.png"].update(eye=[60, 20]),
            r"The eye of .*1\.png is at 60, 20, outside of its 60×50 pixels",
        ),
        (lambda landmarks: landmarks["1.png"].update(nose=[3, -1]), r"outside"),
        (lambda landmarks: landmarks["2.png"].update(size=[61, 50]), r"are of 61×50 pixels, but it has 60×50"),
        (lambda landmarks: [landmarks.pop(f"{number}.png") for number in range(1, 5)], "two or more"),
        (lambda landmarks: landmarks.update({"6.png": landmarks["1.png"]}), r"know 6\.png, but there is no such path below"),
    ],
)
def test_landmarks_that_do_not_fit_the_photos_are_refused(small_network, folder, edit, sentence):
    edit_landmarks(folder, edit)
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
    assert any("over pairs of 5 photos; p:" in text.get_text() for text in result.figure().texts)
    monkeypatch.setattr("deconvnet.experiments.table1_correspondence.result.MAX_SHOWN_IMAGES", 3)
    assert any("5 photos, of which 3 are shown; p:" in text.get_text() for text in result.figure().texts)


@pytest.mark.usefixtures("bars_that_end")
def test_on_the_command_line(network_file, folder, tmp_path, deconvnet_command):
    words = ["--layers", "conv2", "--out", tmp_path / "out", "--draws", 2, "--device", "cpu"]
    code, printed, _ = deconvnet_command("correspond", f"{network_file}:one", folder, tmp_path / "faces.json", *words)
    assert code == 0
    assert "conv2" in printed
    assert "random" in printed
    assert f"Wrote {tmp_path / 'out' / 'correspondence.png'}" in printed.replace("\n", "")
