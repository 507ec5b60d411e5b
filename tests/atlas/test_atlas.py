"""The files of an atlas; it is on disk whole or not at all."""

import csv
import json
import re
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from deconvnet import Atlas, DeconvnetError, Network, Preprocessing, UsageError, mine
from deconvnet.atlas import project_units as project_units_module
from deconvnet.atlas.figures import random_units
from deconvnet.atlas.render import UnitLayout
from deconvnet.atlas.tables import read_table
from deconvnet.data import read_image, torchvision_preprocessing
from deconvnet.models import InputReader
from deconvnet.projection import display_scale, project, to_pixels


@pytest.fixture
def atlas(small_network, photo_folder, tmp_path):
    return Atlas.build(small_network, photo_folder, tmp_path / "atlas", batch_size=5)


def test_files_are_where_the_documentation_says(atlas):
    files = {path.relative_to(atlas.folder).as_posix() for path in atlas.folder.rglob("*") if path.is_file()}
    units = {
        f"{c}/{u:04d}{s}.webp" for c, count in (("conv1", 5), ("conv2", 6)) for u in range(count) for s in ("", "-small")
    }
    tables = {"atlas.json", "hits.csv", "images.csv", "units.csv", "classes.npz", "index.html", "compare.html"}
    pictures = {"filters.npy", "filters.png", "figure-conv1.png", "figure-conv2.png"}
    views = {f"images/{int(row['image']):05d}.webp" for row in atlas.hits}
    pages = {file for file in files if file.startswith("pages/")}
    data = {f"pages/{name}.js" for name in ("atlas", "layer-0", "layer-1", "units-0-0", "units-1-0")}
    assert data < pages
    assert files - pages == units | tables | pictures | views


def test_hits_are_what_mining_finds(atlas, small_network, photo_folder):
    result = mine(small_network, photo_folder)
    hits = [hit for name in result.layers for unit in result[name] for hit in unit]
    rows = [[h.layer, h.unit, h.rank, h.image, h.row, h.column, *h.box] for h in hits]
    columns = ["layer", "unit", "rank", "image", "row", "column", "left", "top", "right", "bottom"]
    assert [[row[name] if name == "layer" else int(row[name]) for name in columns] for row in atlas.hits] == rows
    assert [np.float32(row["value"]) for row in atlas.hits] == [np.float32(hit.value) for hit in hits]
    with (atlas.folder / "hits.csv").open() as opened:
        assert next(csv.reader(opened)) == "layer,unit,rank,image,value,row,column,left,top,right,bottom".split(",")


def test_tables_of_images_units_and_classes(atlas, small_network, photo_folder):
    result = mine(small_network, photo_folder)
    images = read_table(atlas.folder / "images.csv")
    assert [(row["path"], row["label"]) for row in images][:2] == [("ant/00.png", "ant"), ("ant/03.png", "ant")]
    assert all(result.image_set.paths[int(row["image"])] == row["path"] for row in images)
    assert "bee/broken.jpg" not in [row["path"] for row in images]
    unit = next(row for row in atlas.units if row["layer"] == "conv2" and row["unit"] == "3")
    statistics = result["conv2"].statistics
    assert float(unit["active_share"]) == pytest.approx(statistics.active_share[3].item(), rel=1e-5)
    assert float(unit["selectivity"]) == pytest.approx(statistics.selectivity[3].item(), rel=1e-5)
    assert [int(unit[name]) for name in list(unit)[5:]] == statistics.histogram[3].tolist()
    with np.load(atlas.folder / "classes.npz") as classes:
        assert classes["classes"].tolist() == ["ant", "bee", "cat"]
        assert classes["images"].tolist() == statistics.class_images.tolist()
        np.testing.assert_allclose(classes["conv2"], statistics.class_sums.numpy())


def test_a_layer_may_be_called_like_a_parameter_of_numpys(small_network, photo_folder, tmp_path):
    network = Network(small_network.module, small_network.preprocessing, layer_names=["file", "allow_pickle", "fc3"])
    built = Atlas.build(network, photo_folder, tmp_path / "a")
    with np.load(built.folder / "classes.npz") as classes:
        assert set(classes) == {"classes", "images", "file", "allow_pickle"}
        assert (classes["file"].shape, classes["allow_pickle"].shape) == ((3, 5), (3, 6))


def test_description_says_what_it_was_made_of(atlas, small_network, photo_folder):
    description = json.loads((atlas.folder / "atlas.json").read_text())
    assert description["network"]["full_name"] == "small (random)"
    assert description["network"]["digest"] == small_network.digest
    assert description["images"]["read"] == 18
    assert [skipped["path"] for skipped in description["images"]["skipped"]] == ["bee/broken.jpg"]
    assert description["images"]["ignored"] == ["notes.txt"]
    assert [layer["name"] for layer in description["layers"]] == ["conv1", "conv2"]
    assert description["layers"][0]["field"]["rows"] == {"jump": 2, "size": 5, "start": -2}
    assert all(layer["largest_difference"] <= 1e-5 for layer in description["layers"])


def test_a_units_picture_shows_its_projections_and_patches(atlas, small_network, photo_folder):
    """Cut the blocks out of the picture again and compare them with projections and crops made by hand."""
    network = small_network
    result = mine(network, photo_folder)
    for layer, unit in (("conv1", 0), ("conv2", 2)):
        size = network.layer(layer).field.size[0]
        layout = UnitLayout((size, size), 9)
        page = np.asarray(atlas.picture(layer, unit))
        crops, patches = [], []
        for hit in result[layer][unit]:
            image = read_image(result.image_set.file(hit.image))
            x = network.preprocess(image)[None]
            box = network.layer(layer).field.patch_box(hit.row, hit.column)
            projection = project(network, x, layer=layer, unit=unit, position=(hit.row, hit.column))
            crops.append(projection.as_subclass(torch.Tensor)[0][:, box.top : box.bottom, box.left : box.right])
            view = np.asarray(network.preprocessing.view(image))
            patches.append(view[box.top : box.bottom, box.left : box.right])
        tiles = to_pixels(torch.stack(crops), display_scale(torch.stack(crops)))
        for block, expected in enumerate((tiles, np.stack(patches))):
            left, top, right, bottom = layout.box(block)
            pixels = page[top:bottom, left:right]
            step = size * layout.zoom + 1
            for rank, tile in enumerate(expected):
                row, column = divmod(rank, 3)
                shown = pixels[row * step : row * step + step - 1, column * step : column * step + step - 1]
                np.testing.assert_array_equal(shown[:: layout.zoom, :: layout.zoom], tile)


def test_views_are_what_the_network_was_shown(atlas, small_network, photo_folder):
    row = atlas.hits[0]
    paths = {image["image"]: image["path"] for image in read_table(atlas.folder / "images.csv")}
    view = np.asarray(small_network.preprocessing.view(read_image(photo_folder / paths[row["image"]])), dtype=float)
    with Image.open(atlas.folder / "images" / f"{int(row['image']):05d}.webp") as saved:
        assert np.abs(np.asarray(saved.convert("RGB"), dtype=float) - view).mean() < 6  # webp loses a little


def test_only_some_layers_units_and_photos(small_network, photo_folder, tmp_path):
    built = Atlas.build(small_network, photo_folder, tmp_path / "a", layers=["conv2", "conv1"], units=[3, 0], top=2)
    assert built.layers == ["conv1", "conv2"]  # in the order in which they run
    assert {(row["layer"], row["unit"]) for row in built.units} == {(c, u) for c in ("conv1", "conv2") for u in ("0", "3")}
    assert {row["rank"] for row in built.hits} == {"1", "2"}
    with pytest.raises(UsageError, match="There is no unit 6: conv1 has 0–4, conv2 has 0–5"):
        Atlas.build(small_network, photo_folder, tmp_path / "b", units=[5, 6])
    assert Atlas.build(small_network, photo_folder, tmp_path / "c", units=[5], top=300).layers == ["conv2"]
    for none in ({"layers": []}, {"units": []}):
        with pytest.raises(UsageError):
            Atlas.build(small_network, photo_folder, tmp_path / "b", **none)
    with pytest.raises(UsageError, match="no layer 'conv9'"):
        Atlas.build(small_network, photo_folder, tmp_path / "b", layers=["conv9"])
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("photos", "c")] == ["a"]


def test_a_fully_connected_layer_is_pictured_whole(small_network, photo_folder, tmp_path):
    built = Atlas.build(small_network, photo_folder, tmp_path / "a", layers=["fc3"])
    assert built.picture("fc3", 0).width > 2 * 3 * 32
    assert {(row["row"], row["column"], row["right"], row["bottom"]) for row in built.hits} == {("0", "0", "32", "32")}


def test_figures_of_chosen_and_of_random_units(atlas):
    assert atlas.figure("conv2", units=[0, 3]).width > 600
    first, again, other = (np.asarray(atlas.figure("conv1", seed=seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)  # at least its heading says so
    with pytest.raises(UsageError, match="no layer 'conv9'; it has conv1, conv2"):
        atlas.figure("conv9")
    with pytest.raises(UsageError, match="no unit 77 in conv2"):
        atlas.figure("conv2", units=[77])
    with pytest.raises(DeconvnetError, match="no unit 77"):
        atlas.picture("conv2", 77)


def test_random_units_are_active_and_stay_the_same():
    active = {unit: unit % 3 != 0 for unit in range(100, 160)}
    drawn = random_units(active, 0, 2)
    assert drawn == [112, 113, 115, 116, 122, 127, 133, 139, 142, 146, 148, 151, 154, 155, 157, 158]
    assert random_units(active, 0, 3) != drawn
    assert random_units({3: True, 5: False, 8: True}, 0, 0) == [3, 8]
    assert random_units({3: False, 5: False}, 0, 0) == [3, 5]


def test_pages_hold_what_the_tables_say(atlas):
    """Whether they show it is tested in a browser (tests/browser)."""
    overview = received(atlas, "atlas")
    assert overview["network"] == "small (random)"
    assert [(entry["name"], entry["units"], entry["dead"]) for entry in overview["layers"]] == [
        ("conv1", 5, 1),
        ("conv2", 6, 0),
    ]
    assert overview["classes"] == [["ant", "ant"], ["bee", "bee"], ["cat", "cat"]]
    for number, name in enumerate(atlas.layers):
        rows = [row for row in atlas.units if row["layer"] == name]
        values, group = received(atlas, f"layer-{number}"), received(atlas, f"units-{number}-0")
        assert values["unit"] == [int(row["unit"]) for row in rows]
        assert values["frequency"] == pytest.approx([float(row["active_share"]) for row in rows], rel=1e-3)
        assert values["selectivity"] == pytest.approx([float(row["selectivity"]) for row in rows], rel=1e-3)
        with np.load(atlas.folder / "classes.npz") as arrays:
            means = arrays[name] / arrays["images"][:, None]
        for index, row in enumerate(rows):
            hits = [hit for hit in atlas.hits if (hit["layer"], hit["unit"]) == (name, row["unit"])]
            shown = group["units"][index]
            assert [hit[0] for hit in shown["hits"]] == [int(hit["image"]) for hit in hits]
            assert [hit[4:] for hit in shown["hits"]] == [
                [int(hit[e]) for e in ("left", "top", "right", "bottom")] for hit in hits
            ]
            assert sum(shown["histogram"]) == round(float(row["active_share"]) * 18)
            assert values["strength"][index] == pytest.approx(
                max([float(hit["value"]) for hit in hits], default=0), rel=1e-3
            )
            best = values["best"][index]
            assert best == (-1 if not hits else means[:, index].argmax())
            assert [label for label, _ in shown["classes"]] == [
                i for i in np.argsort(-means[:, index]) if means[i, index] > 0
            ]


def test_pages_name_no_other_place(atlas):
    for file in [*atlas.folder.glob("*.html"), *(atlas.folder / "pages").iterdir()]:
        addresses = re.findall(r"\w+://[^\s\"'`)]+", file.read_text())
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}, file  # a name, not an address


def test_thumbnails_are_the_blocks_of_the_picture(atlas):
    entry = atlas.description["layers"][1]
    layout = UnitLayout((entry["picture"]["height"], entry["picture"]["width"]), 9)
    with Image.open(atlas.folder / "conv2" / "0003-small.webp") as thumbnail:
        assert thumbnail.size == (300, 150)
        for block, left in ((0, 0), (1, 150)):
            expected = atlas.picture("conv2", 3).crop(layout.box(block)).resize((6, 6), Image.Resampling.BOX)
            shown = thumbnail.convert("RGB").crop((left, 0, left + 150, 150)).resize((6, 6), Image.Resampling.BOX)
            assert np.abs(np.asarray(expected, dtype=float) - np.asarray(shown)).max() < 12


def received(atlas, name):
    """The value that one of the pages' data files passes to `receive`."""
    text = (atlas.folder / "pages" / f"{name}.js").read_text()
    assert text.startswith(f'receive("{name}",')
    return json.loads(text.removeprefix(f'receive("{name}",').removesuffix(");\n"))


def test_an_existing_folder_is_never_overwritten(atlas, small_network, photo_folder):
    before = (atlas.folder / "hits.csv").read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        Atlas.build(small_network, photo_folder, atlas.folder)
    assert (atlas.folder / "hits.csv").read_bytes() == before


def test_a_network_that_computes_something_else_leaves_no_atlas(small_network, photo_folder, tmp_path, monkeypatch):
    original = project_units_module.project_batch

    def changed(network, x, *arguments, **options):
        return original(network, x * 1.0001, *arguments, **options)

    monkeypatch.setattr(project_units_module, "project_batch", changed)
    with pytest.raises(DeconvnetError, match=r"gives another value for .* although the photo is the same"):
        Atlas.build(small_network, photo_folder, tmp_path / "atlas")
    assert not (tmp_path / "atlas").exists()


def test_a_photo_that_vanished_is_one_sentence(small_network, photo_folder, tmp_path, monkeypatch):
    class Vanished(InputReader):
        def read(self, item, rows=None):
            (photo_folder / "ant" / "00.png").unlink(missing_ok=True)
            return super().read(item, rows)

    monkeypatch.setattr(project_units_module, "InputReader", Vanished)

    with pytest.raises(DeconvnetError, match=r"ant/00\.png could be read while mining, but now it"):
        Atlas.build(small_network, photo_folder, tmp_path / "atlas")
    assert not (tmp_path / "atlas").exists()


def test_a_folder_that_cannot_be_written_is_one_sentence(small_network, photo_folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DeconvnetError, match="cannot be written to"):
        Atlas.build(small_network, photo_folder, tmp_path / "file" / "atlas")


def test_what_is_no_atlas_is_one_sentence(tmp_path):
    with pytest.raises(DeconvnetError, match="There is no atlas in"):
        Atlas(tmp_path)
    for other in ('{"format": 99}', "[1]"):
        (tmp_path / "atlas.json").write_text(other)
        with pytest.raises(DeconvnetError, match="another version"):
            Atlas(tmp_path)


def test_layers_whose_names_mean_something_in_addresses(photo_folder, tmp_path):
    class Shared(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.Conv2d(3, 2, 3), torch.nn.Conv2d(2, 2, 3)
            self.relu = torch.nn.ReLU()

        def forward(self, x):
            return self.relu(self.second(self.relu(self.first(x))))

    network = Network(Shared(), torchvision_preprocessing(32, 32))
    built = Atlas.build(network, photo_folder, tmp_path / "a")
    assert built.layers == ["relu#1", "relu#2"]
    assert (built.folder / "relu#1" / "0000-small.webp").is_file()
    assert [entry["name"] for entry in received(built, "atlas")["layers"]] == built.layers
    with pytest.raises(UsageError, match="cannot be called 'images'"):
        Atlas.build(
            Network(Shared(), torchvision_preprocessing(32, 32), layer_names=["images", "b"]), photo_folder, tmp_path / "b"
        )


@pytest.mark.parametrize(("error", "measured", "passes"), [(1e-6, 0, True), (1e-3, 1e-4, True), (1e-3, 1e-5, False)])
def test_values_may_differ_as_far_as_rounding_takes_them(
    small_network, photo_folder, tmp_path, monkeypatch, error, measured, passes
):
    """Relative to the layer's largest value, as a tiny value is what rounding left of large sums."""
    original = project_units_module.project_batch
    largest = max(hit.value for unit in mine(small_network, photo_folder, ["conv2"])["conv2"] for hit in unit)

    def rounded(*arguments, **options):
        projected = original(*arguments, **options)
        return replace(projected, values=projected.values + error * largest)

    monkeypatch.setattr(project_units_module, "project_batch", rounded)
    monkeypatch.setattr(project_units_module, "rounding_errors", lambda network: dict.fromkeys(network.layers, measured))
    with nullcontext() if passes else pytest.raises(DeconvnetError, match="the network does not compute the same"):
        atlas = Atlas.build(small_network, photo_folder, tmp_path / "atlas", layers=["conv2"])
        assert error <= atlas.description["layers"][0]["largest_difference"] <= error / project_units_module.SMALL * 1.01


def test_a_cropped_pass_that_rounds_too_far_is_replaced_by_a_full_one(small_network, photo_folder, tmp_path, monkeypatch):
    original, cropping = project_units_module.project_batch, []

    def rounded(*arguments, allow_cropping=True, **options):
        cropping.append(allow_cropping)
        projected = original(*arguments, allow_cropping=allow_cropping, **options)
        return replace(projected, values=projected.values * (1 + 1e-4 * allow_cropping))

    Atlas.build(small_network, photo_folder, tmp_path / "plain")
    monkeypatch.setattr(project_units_module, "project_batch", rounded)
    built = Atlas.build(small_network, photo_folder, tmp_path / "atlas")
    assert set(cropping) == {True, False}
    assert all(layer["largest_difference"] <= 1e-5 for layer in built.description["layers"])
    assert (built.folder / "hits.csv").read_bytes() == (tmp_path / "plain" / "hits.csv").read_bytes()


def test_a_mean_image_travels_with_the_atlas(small_network, photo_folder, tmp_path):
    mean = torch.rand(3, 32, 32)
    preprocessing = small_network.preprocessing
    preprocessing = Preprocessing(preprocessing.resize, preprocessing.crop, 1.0, mean, preprocessing.std)
    network = Network(small_network.module, preprocessing)
    built = Atlas.build(network, photo_folder, tmp_path / "a")
    assert np.array_equal(np.load(built.folder / built.description["preprocessing"]["mean"]), mean.numpy())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_an_atlas_made_on_a_gpu_has_the_same_hits(atlas, small_network, photo_folder, tmp_path):
    on_gpu = Atlas.build(small_network.to("cuda"), photo_folder, tmp_path / "gpu", batch_size=5)
    for hit, gpu_hit in zip(atlas.hits, on_gpu.hits, strict=True):
        assert float(gpu_hit.pop("value")) == pytest.approx(float(hit.pop("value")), rel=1e-5)
        assert hit == gpu_hit
