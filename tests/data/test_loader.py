"""Batches: every photo once, in order, whatever the batch size, the number of threads, and what is broken."""

import time

import numpy as np
import pytest
import torch
from PIL import Image

from deconvnet.data import batches, find_images

COUNT = 7


@pytest.fixture
def photos(tmp_path):
    """Seven 4×5 pictures; every pixel of picture n is n + 1."""
    for number in range(COUNT):
        Image.fromarray(np.full((4, 5, 3), number + 1, np.uint8)).save(tmp_path / f"{number}.png")
    return find_images(tmp_path)


def pixels(picture):
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()


def by_image(found):
    """Image index → its input."""
    return {int(image): batch.inputs[row] for batch in found for row, image in zip(batch.rows, batch.images, strict=True)}


def spoil(photos, *indices):
    for index in indices:
        photos.file(index).write_text("no photo")


def test_photos_come_once_and_in_order(photos):
    found = list(batches(photos, pixels, batch_size=3))
    assert [batch.images.tolist() for batch in found] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [batch.rows.tolist() for batch in found] == [[0, 1, 2], [0, 1, 2], [0]]
    for index, x in by_image(found).items():
        assert (x == index + 1).all()


def test_all_batches_have_one_size_and_what_is_left_over_is_zero(photos):
    found = list(batches(photos, pixels, batch_size=3))
    assert {tuple(batch.inputs.shape) for batch in found} == {(3, 3, 4, 5)}
    assert (found[-1].inputs[1:] == 0).all()


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("workers", [1, 4])
def test_a_photo_does_not_depend_on_batch_size_or_workers(photos, batch_size, workers):
    spoil(photos, 2)
    expected = {index: torch.full((3, 4, 5), index + 1.0) for index in range(COUNT) if index != 2}
    found = by_image(batches(photos, pixels, batch_size, workers))
    assert list(found) == list(expected)
    assert all(torch.equal(found[index], expected[index]) for index in expected)


def test_unreadable_photos_are_skipped_with_their_reason(photos):
    spoil(photos, 1, 6)
    first, *_, last = batches(photos, pixels, batch_size=3)
    assert first.skipped == {1: "is not a JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF image, or it is damaged"}
    assert first.rows.tolist() == [0, 2]
    assert first.images.tolist() == [0, 2]
    assert (first.inputs[1] == 0).all()
    assert list(last.skipped) == [6]


def test_a_batch_of_unreadable_photos_only_holds_none(photos):
    spoil(photos, 0, 1)
    first, *_ = batches(photos, pixels, batch_size=2)
    assert len(first.inputs) == 2
    assert list(first.skipped) == [0, 1]
    assert first.inputs[first.rows].shape[0] == 0  # an empty index is an index still
    assert first.images.dtype == torch.int64


def test_only_the_asked_for_indices_are_read(photos):
    found = list(batches(photos, pixels, batch_size=2, indices=[1, 4, 6]))
    assert [batch.images.tolist() for batch in found] == [[1, 4], [6]]
    assert [float(x.mean()) for x in by_image(found).values()] == [2, 5, 7]


def test_skipped_photos_keep_their_number_among_chosen_indices(photos):
    spoil(photos, 4)
    found = list(batches(photos, pixels, batch_size=2, indices=[1, 4, 6]))
    assert found[0].skipped.keys() == {4}
    assert [batch.images.tolist() for batch in found] == [[1], [6]]


def test_no_indices_make_no_batch(photos):
    assert list(batches(photos, pixels, indices=[])) == []


def test_an_error_of_the_preprocessing_is_not_taken_for_a_broken_photo(photos):
    def broken(picture):
        raise RuntimeError("the caller's own fault")

    with pytest.raises(RuntimeError, match="the caller's own fault"):
        next(batches(photos, broken))


def test_no_more_than_three_batches_are_decoded_ahead(tmp_path):
    for number in range(30):
        Image.new("RGB", (2, 2)).save(tmp_path / f"{number:02}.png")
    decoded = []

    def remember(picture):
        decoded.append(1)
        return pixels(picture)

    found = batches(find_images(tmp_path), remember, batch_size=2, workers=4)
    next(found)
    time.sleep(0.2)
    assert 2 <= len(decoded) <= 2 * (1 + 3)
    found.close()
    assert len(decoded) <= 2 * (1 + 3)


@pytest.mark.data
def test_real_photos_are_all_readable(data):
    photos = find_images(data / "cats")
    found = list(batches(photos, lambda picture: pixels(picture.resize((8, 8))), batch_size=8))
    assert sum(len(batch.rows) for batch in found) == len(photos) == 23
