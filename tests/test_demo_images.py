from itertools import pairwise

from PIL import Image

from deconvnet.data import find_images
from deconvnet.demo_images import IMAGE_NAMES, MIN_VIEW_SIZE, _window_starts, demo_image, write_views


def test_a_few_hundred_views_in_a_folder_per_photo(tmp_path):
    count = write_views(tmp_path)
    image_set = find_images(tmp_path)
    assert count == len(image_set)
    assert 200 < count < 900
    assert image_set.classes == tuple(sorted(IMAGE_NAMES))
    for index in range(0, count, 40):
        with Image.open(image_set.file(index)) as view:
            assert view.width == view.height
            assert MIN_VIEW_SIZE <= view.width <= 256


def test_windows_cover_a_photo_and_overlap_by_half():
    for length, side in ((300, 300), (451, 300), (512, 184), (1000, 360)):
        starts = _window_starts(length, side)
        assert starts[0] == 0
        assert starts[-1] + side == length
        assert all(b - a <= side / 2 + 1 for a, b in pairwise(starts))


def test_photos_are_rgb():
    assert all(demo_image(name).mode == "RGB" for name in IMAGE_NAMES)
