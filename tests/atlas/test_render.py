"""Pictures of units, filters and projections."""

import numpy as np
import torch

from deconvnet.atlas.render import UnitLayout, filter_sheet, filter_tiles, fit_text, font, projection_picture, unit_picture
from deconvnet.tracing import Box


def test_a_dead_unit_says_so_and_stays_grey():
    layout = UnitLayout((20, 20), 9)
    page = np.asarray(
        unit_picture(torch.zeros(0, 3, 20, 20), np.zeros((0, 20, 20, 3), np.uint8), layout, "conv1 · unit 0", "net")
    )
    left, top, right, bottom = layout.box(1)
    assert set(np.unique(page[top:bottom, left:right])) == {128, 190}  # grey tiles and the lines between them


def test_small_patches_are_enlarged_by_a_whole_number():
    assert UnitLayout((11, 11), 9).zoom == 8
    assert UnitLayout((163, 163), 9).zoom == 1
    assert UnitLayout((7, 7), 4).columns == 2


def test_filters_share_one_scale_with_zero_in_the_middle():
    filters = torch.zeros(2, 3, 4, 4)
    filters[0, 0], filters[1, 0] = 2.0, -1.0
    tiles = filter_tiles(filters)
    assert tiles[0, 0, 0].tolist() == [255, 128, 128]
    assert tiles[1, 0, 0].tolist() == [64, 128, 128]
    assert filter_tiles(filters, shared_scale=False)[1, 0, 0].tolist() == [0, 128, 128]


def test_a_filter_sheet_has_eleven_columns():
    assert filter_sheet(torch.randn(96, 3, 7, 7), "net").width == 11 * 49 + 10 * 2 + 24


def test_long_names_are_shortened_in_the_middle():
    text = fit_text("a very long name of a network with many words in it", 150, 13)
    assert font(13).getlength(text) <= 150
    assert text.startswith("a very")
    assert text.endswith("in it")


def test_a_unit_that_only_its_bias_drives_says_so():
    layout = UnitLayout((20, 20), 1)
    patches = np.zeros((1, 20, 20, 3), np.uint8)
    silent = unit_picture(torch.zeros(1, 3, 20, 20), patches, layout, "conv1 · unit 0", "net")
    driven = unit_picture(torch.ones(1, 3, 20, 20), patches, layout, "conv1 · unit 0", "net")
    assert np.asarray(silent)[: layout.HEADER].tolist() != np.asarray(driven)[: layout.HEADER].tolist()


def test_a_projection_stands_beside_its_photo_and_its_field_below():
    projection, view = torch.zeros(3, 40, 40), np.full((40, 40, 3), 200, np.uint8)
    projection[:, 10, 5] = 1.0
    view[10, 5] = (0, 0, 250)
    drawn = np.asarray(projection_picture(projection, view, Box(4, 8, 14, 18), "conv1", "net"))
    whole = np.asarray(projection_picture(projection, view, Box(0, 0, 40, 40), "fc6", "net"))
    assert drawn.shape[0] - whole.shape[0] == 80 + 12  # a second row
    frame = (drawn == (255, 176, 0)).all(axis=2)
    assert frame.sum() == 2 * (20 * 20 - 16 * 16)
    assert not (whole == (255, 176, 0)).all(axis=2).any()
    blue = (drawn == (0, 0, 250)).all(axis=2)
    assert blue.sum() == 2 * 2 + 8 * 8  # twice as large above, as large as the field's tenth below
    rows, columns = frame.nonzero()
    right = columns[columns > columns.max() - 20].min()
    assert (rows.min() + 4, right + 2) == tuple(np.argwhere(blue)[0])
