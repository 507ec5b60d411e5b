"""An atlas of a data set: its pictures, tables and pages, resuming, and data sets that are not the same twice."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from deconvnet import Atlas, DeconvnetError, UsageError, mine
from deconvnet.atlas import draw_units as draw_units_module
from deconvnet.atlas.project_units import project_units
from deconvnet.atlas.render import UnitLayout
from deconvnet.data import InputDataset
from deconvnet.data.channel_pictures import channels_as_rgb
from deconvnet.mining import mine_part
from deconvnet.projection import display_scale
from deconvnet.projection.picture import to_levels
from helpers.odd_shapes import SHAPES, Blobs, odd_network
from oracles.hand_placed_rules import Deconvnet


@pytest.fixture(scope="module", params=SHAPES, ids=lambda shape: "×".join(map(str, shape)))
def shape(request):
    return request.param


@pytest.fixture(scope="module")
def atlas(shape, tmp_path_factory):
    images = InputDataset(Blobs(shape), "blobs")
    return Atlas.build(odd_network(shape), images, tmp_path_factory.mktemp("atlases") / "blobs", batch_size=8)


def test_pictures_are_the_oracles_projections_and_windows_of_the_inputs(atlas, shape):
    network, blobs = odd_network(shape), Blobs(shape)
    result = mine(network, blobs, batch_size=8)
    index = {"conv1": 0, "conv2": 1}
    for layer, unit in (("conv1", 0), ("conv2", 1), ("conv2", 5)):
        field, hits = network.layer(layer).field, result[layer][unit]
        height, width = field.patch_size
        layout = UnitLayout((height, width), 9, shape[0])
        projections, patches = torch.zeros(len(hits), shape[0], height, width), []
        for place, hit in enumerate(hits):
            oracle = Deconvnet(network.module, blobs.inputs[hit.image][None])
            left, top, right, bottom = field.patch_box(hit.row, hit.column)
            projections[place] = oracle.project(index[layer], unit, hit.row, hit.column)[:, top:bottom, left:right]
            x = blobs.inputs[hit.image].double().numpy()
            low, high = x.min(axis=(1, 2), keepdims=True), x.max(axis=(1, 2), keepdims=True)
            shown = np.rint(255 * (x - low) / (high - low)).astype(np.uint8)
            patches.append(shown[:, top:bottom, left:right].transpose(1, 2, 0))
        page = np.asarray(atlas.picture(layer, unit)).astype(int)
        levels = to_levels(projections, display_scale(projections))
        for block, tiles in enumerate((levels, np.stack(patches))):
            left, top, _, _ = layout.box(block)
            rows, columns = layout.tile
            for place, tile in enumerate(tiles):
                expected = channels_as_rgb(tile.repeat(layout.zoom, axis=0).repeat(layout.zoom, axis=1))
                row = top + place // layout.columns * (rows + layout.gap)
                column = left + place % layout.columns * (columns + layout.gap)
                found = page[row : row + rows, column : column + columns]
                assert np.abs(found - expected).max() <= 1 + 127 * (block == 0) * 1e-3, (layer, unit, block, place)


def test_its_tables_and_pages_know_what_it_is_of(atlas, shape):
    channels = shape[0]
    assert repr(atlas).endswith("odd over 37 inputs>")
    assert atlas.description["preprocessing"] is None
    images = atlas.description["images"]
    assert (images["folder"], images["noun"], images["found"], images["read"], images["classes"]) == (
        "blobs",
        "input",
        37,
        37,
        4,
    )
    entry = atlas.description["input"]
    assert (entry["channels"], entry["height"], entry["width"], entry["shown_channels"]) == (*shape, channels)
    assert "lowest value (black)" in entry["shown_as"]
    rows = (atlas.folder / "images.csv").read_text().splitlines()
    assert rows[:3] == ["image,path,label", f"0,0,{Blobs(shape).labels[0]}", f"1,1,{Blobs(shape).labels[1]}"]
    script = (atlas.folder / "pages" / "atlas.js").read_text()
    overview = json.loads(script.removeprefix('receive("atlas",').removesuffix(");\n"))
    with Image.open(next((atlas.folder / "images").iterdir())) as view:
        assert overview["view"] == list(view.size)
    assert len(overview["corners"]) == (1 if channels == 3 else channels)
    assert overview["noun"] == "input"
    assert Atlas(atlas.folder).figure("conv2", [0, 1, 2], seed=3).width > 500


def test_views_are_the_inputs_to_the_grey_level(atlas, shape):
    network, blobs = odd_network(shape), Blobs(shape)
    for file in sorted((atlas.folder / "images").iterdir()):
        expected = channels_as_rgb(network.show(blobs.inputs[int(file.stem)][None]))[0]
        with Image.open(file) as view:
            assert (np.asarray(view.convert("RGB")) == expected).all()


def test_what_to_image_makes_is_shown_next_to_each_channels_projection(tmp_path):
    shape = SHAPES[1]
    network = odd_network(shape, to_image=lambda x: ((x[:3] > 1).byte() * 255).permute(1, 2, 0))
    blobs = Blobs(shape)
    atlas = Atlas.build(network, blobs, tmp_path / "atlas", ["conv2"], [1])
    assert atlas.description["input"]["shown_channels"] == 3
    assert atlas.description["input"]["shown_as"] == ""
    assert atlas.description["images"]["folder"] == "Blobs"
    hit = mine(network, blobs, ["conv2"])["conv2"][1][0]
    layout = UnitLayout(network.layer("conv2").field.patch_size, 9, 4)
    left, top, right, bottom = network.layer("conv2").field.patch_box(hit.row, hit.column)
    expected = ((blobs.inputs[hit.image, :3, top:bottom, left:right] > 1).byte() * 255).permute(1, 2, 0).numpy()
    x, y, _, _ = layout.box(1)
    rows, columns = layout.tile
    tile = np.asarray(atlas.picture("conv2", 1))[y : y + rows, x : x + columns]
    zoom = min(rows // expected.shape[0], columns // expected.shape[1])
    assert zoom > layout.zoom  # as large as fits beside a grid of two by two
    top, left = (rows - zoom * expected.shape[0]) // 2, (columns - zoom * expected.shape[1]) // 2
    cut = tile[top : top + zoom * expected.shape[0], left : left + zoom * expected.shape[1]]
    assert (cut[::zoom, ::zoom] == expected).all()


def test_it_is_built_of_merged_parts_and_resumes(tmp_path, monkeypatch):
    shape = SHAPES[0]
    network, blobs = odd_network(shape), InputDataset(Blobs(shape), "blobs")
    whole = Atlas.build(network, blobs, tmp_path / "whole", workers=1)
    parts = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    for number, file in enumerate(parts, start=1):
        mine_part(network, blobs, file, (number, 2), workers=1)
    save_drawing = draw_units_module._save_drawing
    drawn = []

    def stops(*arguments):
        drawn.append(arguments)
        if len(drawn) > 8:
            raise KeyboardInterrupt
        save_drawing(*arguments)

    monkeypatch.setattr(draw_units_module, "_save_drawing", stops)
    with pytest.raises(KeyboardInterrupt):
        Atlas.build(network, blobs, tmp_path / "merged", parts=parts, workers=1)
    monkeypatch.setattr(draw_units_module, "_save_drawing", save_drawing)
    merged = Atlas.build(network, blobs, tmp_path / "merged", parts=parts, workers=1)
    names = sorted(file.relative_to(whole.folder) for file in whole.folder.rglob("*") if file.is_file())
    assert len(names) > 60
    assert names == sorted(file.relative_to(merged.folder) for file in merged.folder.rglob("*") if file.is_file())
    for name in names:
        assert (whole.folder / name).read_bytes() == (merged.folder / name).read_bytes(), name


class Augmented(Dataset):
    """The same when it is looked at for the first times, and moved a little after that."""

    def __init__(self, shape, steady_reads) -> None:
        self.blobs, self.reads_left = Blobs(shape), steady_reads

    def __len__(self) -> int:
        return len(self.blobs)

    def __getitem__(self, index):
        self.reads_left -= 1
        x, label = self.blobs[index]
        return (x if self.reads_left >= 0 else x + 1e-3), label


def test_an_item_that_differs_when_it_is_read_again_is_refused(tmp_path):
    shape = SHAPES[0]
    network = odd_network(shape)
    with pytest.raises(DeconvnetError, match=r"Item 0 of Augmented is another one each time it is read: take random trans"):
        Atlas.build(network, Augmented(shape, 16), tmp_path / "atlas")
    with pytest.raises(DeconvnetError, match=r"Item \d+ of Augmented is another one than when it was mined: mine again, wi"):
        Atlas.build(network, Augmented(shape, 2 * 16 + 37), tmp_path / "atlas")
    assert not (tmp_path / "atlas").exists()


def test_projecting_checks_each_item(tmp_path):
    shape = SHAPES[0]
    network, blobs = odd_network(shape), Blobs(shape)
    hits = mine(network, blobs)["conv2"]
    changed = hits[3][2].image
    blobs.inputs[changed] = blobs.inputs[changed].flip(1)
    with pytest.raises(DeconvnetError, match=f"Item {changed} of Blobs is another one than when it was mined"):
        list(project_units(network, hits, [3]))


def test_an_iterable_is_refused_for_an_atlas(tmp_path):
    shape = SHAPES[0]
    with pytest.raises(UsageError, match="can be read only once, but strong activations are read again"):
        Atlas.build(odd_network(shape), iter(Blobs(shape).inputs), tmp_path / "atlas")


def test_an_atlas_of_photos_is_refused_before_a_folder_is_made(photo_folder, tmp_path):
    with pytest.raises(UsageError, match="odd has no preprocessing"):
        Atlas.build(odd_network(SHAPES[2]), photo_folder, tmp_path / "out" / "atlas")
    assert not (tmp_path / "out").exists()
