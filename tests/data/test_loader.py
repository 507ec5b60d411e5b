"""Batches: every photo once, in order, whatever the batch size, the number of threads, and what is broken."""

import time

import numpy as np
import pytest
import torch
from PIL import Image

from deconvnet.data import batches, find_images, loader, upload

COUNT = 7


@pytest.fixture
def image_set(tmp_path):
    """Seven 4×5 images; every pixel of image n is n + 1."""
    for number in range(COUNT):
        Image.fromarray(np.full((4, 5, 3), number + 1, np.uint8)).save(tmp_path / f"{number}.png")
    return find_images(tmp_path)


def pixels(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()


def inputs_by_index(all_batches):
    """Image index → its input."""
    return {
        int(index): batch.inputs[row] for batch in all_batches for row, index in zip(batch.rows, batch.indices, strict=True)
    }


def damage(image_set, *indices):
    for index in indices:
        image_set.file(index).write_text("no photo")


def test_photos_come_once_and_in_order(image_set):
    all_batches = list(batches(image_set, pixels, batch_size=3))
    assert [batch.indices.tolist() for batch in all_batches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [batch.rows.tolist() for batch in all_batches] == [[0, 1, 2], [0, 1, 2], [0]]
    for index, x in inputs_by_index(all_batches).items():
        assert (x == index + 1).all()


def test_all_batches_have_one_size_and_what_is_left_over_is_zero(image_set):
    all_batches = list(batches(image_set, pixels, batch_size=3))
    assert {tuple(batch.inputs.shape) for batch in all_batches} == {(3, 3, 4, 5)}
    assert (all_batches[-1].inputs[1:] == 0).all()


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("workers", [1, 4])
def test_a_photo_does_not_depend_on_batch_size_or_workers(image_set, batch_size, workers):
    damage(image_set, 2)
    expected = {index: torch.full((3, 4, 5), index + 1.0) for index in range(COUNT) if index != 2}
    all_batches = inputs_by_index(batches(image_set, pixels, batch_size, workers))
    assert list(all_batches) == list(expected)
    assert all(torch.equal(all_batches[index], expected[index]) for index in expected)


def test_unreadable_photos_are_skipped_with_their_reason(image_set):
    damage(image_set, 1, 6)
    first, *_, last = batches(image_set, pixels, batch_size=3)
    assert first.skipped == {1: "is not a JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF image, or it is damaged"}
    assert first.rows.tolist() == [0, 2]
    assert first.indices.tolist() == [0, 2]
    assert (first.inputs[1] == 0).all()
    assert list(last.skipped) == [6]


def test_a_batch_of_unreadable_photos_only_holds_none(image_set):
    damage(image_set, 0, 1)
    first, *_ = batches(image_set, pixels, batch_size=2)
    assert len(first.inputs) == 2
    assert list(first.skipped) == [0, 1]
    assert first.inputs[first.rows].shape[0] == 0  # an empty index is an index still
    assert first.indices.dtype == torch.int64


def test_only_the_asked_for_indices_are_read(image_set):
    all_batches = list(batches(image_set, pixels, batch_size=2, indices=[1, 4, 6]))
    assert [batch.indices.tolist() for batch in all_batches] == [[1, 4], [6]]
    assert [float(x.mean()) for x in inputs_by_index(all_batches).values()] == [2, 5, 7]


def test_skipped_photos_keep_their_number_among_chosen_indices(image_set):
    damage(image_set, 4)
    all_batches = list(batches(image_set, pixels, batch_size=2, indices=[1, 4, 6]))
    assert all_batches[0].skipped.keys() == {4}
    assert [batch.indices.tolist() for batch in all_batches] == [[1], [6]]


def test_no_indices_make_no_batch(image_set):
    assert list(batches(image_set, pixels, indices=[])) == []


def test_an_error_of_the_preprocessing_is_not_taken_for_a_broken_photo(image_set):
    def broken(image):
        raise RuntimeError("the caller's own fault")

    with pytest.raises(RuntimeError, match="the caller's own fault"):
        next(batches(image_set, broken))


def test_each_thread_reads_one_batch_ahead(tmp_path):
    for number in range(30):
        Image.new("RGB", (2, 2)).save(tmp_path / f"{number:02}.png")
    decoded = []

    def remember(image):
        decoded.append(1)
        return pixels(image)

    all_batches = batches(find_images(tmp_path), remember, batch_size=2, workers=4)
    next(all_batches)
    end = time.monotonic() + 10
    while len(decoded) < 2 * (1 + 4) and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(decoded) == 2 * (1 + 4)
    all_batches.close()
    assert len(decoded) == 2 * (1 + 4)


@pytest.mark.parametrize(
    ("cores", "batch_size", "threads"), [(1, 32, 1), (6, 32, 6), (64, 32, 64), (64, 256, 8), (64, 4096, 8), (4, 4096, 4)]
)
def test_a_thread_for_each_core_reads_a_batch_ahead_as_far_as_memory_allows(monkeypatch, cores, batch_size, threads):
    monkeypatch.setattr(loader, "core_count", lambda: cores)
    assert loader.reading_threads(batch_size) == threads


@pytest.fixture
def pinned(monkeypatch):
    """A machine on which memory can be pinned: the tensors of which it is."""
    tensors = []

    def pin_memory(tensor):
        tensors.append(tensor.clone())
        return tensors[-1]

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    return tensors


@pytest.mark.parametrize("device", ["cpu", "mps", "cuda", "cuda:1"])
def test_batches_are_in_pinned_memory_for_cuda_only(image_set, pinned, device):
    all_batches = list(batches(image_set, pixels, batch_size=3, device=device))
    assert len(pinned) == (3 if "cuda" in device else 0)
    is_pinned = [any(batch.inputs is tensor for tensor in pinned) for batch in all_batches]
    assert is_pinned == ["cuda" in device] * 3
    assert inputs_by_index(all_batches)[4].unique().tolist() == [5]


@pytest.mark.parametrize("device", ["cpu", "mps", "cuda:1"])
def test_only_copies_to_cuda_are_not_waited_for(monkeypatch, device):
    """A copy to another GPU that is not waited for could read memory that is in use again."""
    calls = []
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device, non_blocking: calls.append((device, non_blocking)))
    upload(torch.zeros(2), torch.device(device))
    assert calls == [(torch.device(device), "cuda" in device)]


@pytest.mark.data
def test_real_photos_are_all_readable(data):
    image_set = find_images(data / "cats")
    all_batches = list(batches(image_set, lambda image: pixels(image.resize((8, 8))), batch_size=8))
    assert sum(len(batch.rows) for batch in all_batches) == len(image_set) == 23
