"""Mining equals a brute-force sort of all activations, for any batch size and number of workers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from deconvnet.data import UnreadableImage, find_images, read_image
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.mining import HISTOGRAM_EDGES, mine
from oracles.brute_force_mining import hits_of, statistics_of

LAYERS = ["conv1", "conv2", "fc3"]


def all_maps(network, image_set, layer):
    """Activations of every readable image, one image at a time, and the images' indices."""
    maps, indices = [], []
    for index in range(len(image_set)):
        try:
            x = network.preprocess(read_image(image_set.file(index)))[None]
        except UnreadableImage:
            continue
        activations = network.activations(x, layer).numpy()
        maps.append(activations.reshape(*activations.shape[:2], *(activations.shape[2:] or (1, 1))))
        indices.append(index)
    return np.concatenate(maps), indices


def test_small_batches_and_many_workers_change_nothing(small_network, photo_folder):
    image_set = find_images(photo_folder)
    expected_maps = {layer: all_maps(small_network, image_set, layer) for layer in LAYERS}
    for batch_size, workers in ((1, 1), (4, 3), (7, 2), (64, None)):
        result = mine(small_network, photo_folder, LAYERS, top=4, batch_size=batch_size, workers=workers)
        for layer in LAYERS:
            maps, indices = expected_maps[layer]
            for unit, expected in enumerate(hits_of(maps, 4)):
                got = result[layer][unit]
                assert [(hit.image, hit.row, hit.column) for hit in got] == [(indices[i], r, c) for _, i, r, c in expected]
                assert [hit.value for hit in got] == pytest.approx([value for value, *_ in expected], rel=1e-5)
                assert [hit.rank for hit in got] == list(range(1, len(got) + 1))


def test_equal_photos_come_in_the_order_of_their_paths(small_network, photo_folder):
    image_set = find_images(photo_folder)
    twins = [image_set.paths.index("ant/03.png"), image_set.paths.index("cat/twin.png")]
    for unit in mine(small_network, photo_folder, ["conv2"], top=len(image_set))["conv2"]:
        order = [hit.image for hit in unit]
        assert [image for image in order if image in twins] in (twins, [])


def test_a_dead_unit_has_no_hits_and_others_fill_up(small_network, photo_folder):
    result = mine(small_network, photo_folder, ["conv1"], top=50)["conv1"]
    assert result[4] == []
    assert result.statistics.active_share[4] == 0
    assert len(result[0]) == result.statistics.active[0]


def test_statistics(small_network, photo_folder):
    image_set = find_images(photo_folder)
    result = mine(small_network, photo_folder, LAYERS, batch_size=5)
    for layer in LAYERS:
        maps, indices = all_maps(small_network, image_set, layer)
        got = result[layer].statistics
        assert got.image_count == len(maps) == 18
        for unit, want in enumerate(statistics_of(maps, [image_set.labels[i] for i in indices], HISTOGRAM_EDGES.tolist())):
            assert got.active_share[unit].item() == pytest.approx(want["active_share"])
            assert got.mean_max[unit].item() == pytest.approx(want["mean_max"], rel=1e-5)
            assert got.selectivity[unit].item() == pytest.approx(want["selectivity"], rel=1e-4, abs=1e-7)
            assert got.histogram[unit].tolist() == want["histogram"]
            sums = dict(zip(image_set.classes, got.class_sums[:, unit].tolist(), strict=True))
            assert sums == pytest.approx(want["class_sums"], rel=1e-5)


def test_boxes_are_receptive_fields_clipped_to_the_input(small_network, photo_folder):
    for unit in mine(small_network, photo_folder, ["conv1"])["conv1"]:
        for hit in unit:
            left, top = 2 * hit.column - 2, 2 * hit.row - 2
            assert hit.box == (max(left, 0), max(top, 0), min(left + 5, 32), min(top + 5, 32))


def test_an_unreadable_photo_is_skipped_and_named(small_network, photo_folder):
    result = mine(small_network, photo_folder, ["conv1"])
    ((index, reason),) = result.skipped.items()
    assert result.image_set.paths[index] == "bee/broken.jpg"
    assert reason
    assert result.read_count == 18
    assert result.image_set.ignored == ("notes.txt",)


def test_a_folder_without_a_readable_photo_is_an_error(small_network, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(DeconvnetError, match=r"None of the 1 photos in .* can be read: a\.jpg"):
        mine(small_network, tmp_path)


def test_by_default_the_convolutional_layers_are_mined(small_network, photo_folder):
    assert list(mine(small_network, photo_folder).layers) == ["conv1", "conv2"]


def test_flat_folders_have_no_classes(small_network, photo_folder):
    result = mine(small_network, photo_folder / "ant", ["conv1"])
    assert result["conv1"].statistics.class_sums.shape == (0, 5)
    assert result["conv1"].statistics.selectivity.isnan().all()


@pytest.mark.parametrize(("value", "message"), [(torch.nan, "NaN"), (torch.inf, "inf"), (1e30, r"1e\+30")])
def test_nan_and_the_like_are_not_passed_on(small_network, photo_folder, value, message):
    with torch.no_grad():
        small_network.module[4].bias[0] = value
    with pytest.raises(DeconvnetError, match=rf"conv2 of .* gives {message}: "):
        mine(small_network, photo_folder)


@pytest.mark.parametrize("wrong", [{"top": 0}, {"batch_size": 0}, {"layers": ["conv7"]}])
def test_invalid_numbers_and_unknown_layers_are_refused(small_network, photo_folder, wrong):
    with pytest.raises(UsageError):
        mine(small_network, photo_folder, **wrong)


@pytest.mark.data
def test_real_alexnet_equals_a_brute_force_sort(data: Path):
    from deconvnet.models import load

    network = load("alexnet2012", data / "bvlc_alexnet_trunk.safetensors")
    image_set = find_images(sorted((data / "cats").glob("*.jpg")))
    layers = ["conv3", "conv5"]
    expected_maps = {layer: all_maps(network, image_set, layer)[0] for layer in layers}
    for batch_size, workers in ((5, 1), (32, 2)):
        result = mine(network, image_set, layers, batch_size=batch_size, workers=workers)
        for layer in layers:
            maxima = expected_maps[layer].max(axis=(2, 3))
            for unit in range(maxima.shape[1]):
                expected = sorted(
                    (i for i in range(len(image_set)) if maxima[i, unit] > 0), key=lambda i: (-maxima[i, unit], i)
                )[:9]
                got = result[layer][unit]
                assert [hit.value for hit in got] == pytest.approx([maxima[i, unit] for i in expected], rel=1e-5)
                assert [hit.image for hit in got] == expected
