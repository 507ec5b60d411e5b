"""What each address returns, compared with calling the library directly."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from deconvnet.atlas.html import page_files, shared_assets
from deconvnet.data import read_image
from deconvnet.experiments.fig7_occlusion import Occluder, forward_occluded_in_batches
from deconvnet.experiments.look import look
from deconvnet.explorer import uploads
from deconvnet.explorer.app_state import Explorer
from deconvnet.explorer.occlusion_stream import OcclusionSweep, clip_rectangle
from deconvnet.explorer.served_networks import LoadedNetwork, ServedModel
from deconvnet.models import Network
from deconvnet.projection import display_scale, project_batch, to_pixels
from helpers.exploring import CLASSES, Client, image_bytes, upload_image


@pytest.fixture
def x(network):
    return network.preprocess(read_image(image_bytes()))


def pixels(answer):
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def test_networks_are_described(client, network):
    (entry,) = client.get("/api/networks").json()
    assert {name: entry[name] for name in ("key", "name", "atlas", "classifies", "crop", "reason", "classes")} == {
        "key": "little-atlas",
        "name": "small (random)",
        "atlas": "little-atlas",
        "classifies": True,
        "crop": 32,
        "reason": None,
        "classes": 3,
    }
    first, _, last = entry["layers"]
    assert first == {
        "name": "conv1",
        "units": 5,
        "rows": 16,
        "columns": 16,
        "convolutional": True,
        "field": {"rows": {"jump": 2, "size": 5, "start": -2}, "columns": {"jump": 2, "size": 5, "start": -2}},
        "sees": "5×5 pixels",
    }
    assert (last["name"], last["rows"], last["columns"], last["convolutional"]) == ("fc3", 1, 1, False)


def test_a_look_is_that_of_the_library(client, network, image_path, x):
    actual, expected = client.get(image_path).json(), look(network, read_image(image_bytes()))
    assert [c["probability"] for c in actual["classes"]] == pytest.approx([p for _, p in expected.classes], rel=1e-5)
    assert [c["name"] for c in actual["classes"]] == [name for name, _ in expected.classes]
    assert [CLASSES[c["number"]][1].partition(",")[0] for c in actual["classes"]] == [name for name, _ in expected.classes]
    assert [layer["name"] for layer in actual["layers"]] == ["conv1", "conv2", "fc3"]
    for layer in actual["layers"]:
        units = expected.layers[layer["name"]]
        assert len(units) > 1
        assert [(u["unit"], u["row"], u["column"], u["box"]) for u in layer["units"]] == [
            (u.unit, u.row, u.column, list(u.box)) for u in units
        ]
        assert [u["value"] for u in layer["units"]] == pytest.approx([u.value for u in units], rel=1e-5)


def test_a_look_takes_one_pass_and_is_kept(client, network, image_path):
    passes = []
    network.module.register_forward_hook(lambda *_: passes.append(1))
    assert client.get(image_path).json() == client.get(image_path).json()
    assert len(passes) == 1


def test_the_view_is_what_the_network_is_shown(client, network, image_path, x):
    np.testing.assert_array_equal(
        pixels(client.get(image_path + "/view.png")), network.preprocessing.denormalise(x[None])[0]
    )


def test_a_map(client, network, image_path, x):
    for layer in ("conv2", "fc3"):
        actual = client.get(f"{image_path}/layers/{layer}/1").json()
        expected = network.activations(x[None], layer)[0, 1].reshape(network.layer(layer).map_size)
        torch.testing.assert_close(torch.tensor(actual["values"]), expected, rtol=1e-3, atol=1e-6)
        assert (actual["rows"], actual["columns"]) == tuple(expected.shape)
        assert actual["value"] == pytest.approx(expected.max().item(), rel=1e-5)
        assert actual["row"] * expected.shape[1] + actual["column"] == int(expected.argmax())
        assert (actual["layer"], actual["unit"]) == (layer, 1)


@pytest.mark.parametrize(("layer", "unit", "position"), [("conv1", 2, (0, 15)), ("conv2", 3, None), ("fc3", 0, (0, 0))])
def test_a_projection(client, network, image_path, x, layer, unit, position):
    positions = None if position is None else torch.tensor([position])
    expected = project_batch(network, x[None], layer, torch.tensor([unit]), positions)
    box = network.layer(layer).field.patch_box(int(expected.rows[0]), int(expected.columns[0]))
    scale = display_scale(expected.pixels[0][:, box.top : box.bottom, box.left : box.right])
    query = {} if position is None else {"row": position[0], "column": position[1]}
    actual = pixels(client.get(f"{image_path}/layers/{layer}/{unit}/projection.png", params=query))
    np.testing.assert_array_equal(actual, to_pixels(expected.pixels[0], scale))


def test_missing_things_are_named(client, image_path):
    key = image_path.rpartition("/")[0]
    for address, status, message in [
        (f"{key}/other", 404, "No atlas and no network here is called 'other'."),
        ("/api/photos/unknown/little-atlas", 404, "This photo is not here any more: choose it again."),
        (f"{image_path}/layers/conv9/0", 404, "small (random) has no layer 'conv9'."),
        (f"{image_path}/layers/conv1/5", 404, "conv1 has the units 0 to 4, not 5."),
        (f"{image_path}/layers/conv1/-1", 422, "unit is not understood: Input should be greater than or equal to 0."),
        (
            f"{image_path}/layers/conv1/{10**30}",
            422,
            "unit is not understood: Input should be less than or equal to 1000000.",
        ),
        (f"{image_path}/layers/conv1/0/projection.png?row=1", 422, "A place is a row and a column"),
        (
            f"{image_path}/layers/conv1/0/projection.png?row=16&column=0",
            404,
            "The maps of conv1 have 16 rows and 16 columns.",
        ),
        (f"{image_path}/layers/conv1/0/projection.png?row=a&column=0", 422, "row is not understood"),
        ("/nothing", 404, "There is nothing at this address."),
        ("/api/photos", 405, "This address does not take GET."),
    ]:
        answer = client.get(address)
        assert (answer.status_code, list(answer.json())) == (status, ["error"]), address
        assert answer.json()["error"].startswith(message)


def test_photos_that_were_used_longest_ago_are_forgotten(client, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_IMAGES", 2)
    first, second = (upload_image(client, image_bytes(seed=n)).json()["photo"] for n in (1, 2))
    assert client.get(f"/api/photos/{first}/little-atlas").status_code == 200
    upload_image(client, image_bytes(seed=3))
    assert client.get(f"/api/photos/{first}/little-atlas").status_code == 200
    assert client.get(f"/api/photos/{second}/little-atlas").status_code == 404


def occlusion(client, image_path, **options):
    answer = client.post(image_path + "/occlusion", json=options)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    first, *parts = [json.loads(line) for line in answer.text.splitlines()]
    return first, parts


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_an_occlusion_map_is_that_of_the_library(client, network, image_path, x, monkeypatch, batch):
    monkeypatch.setattr("deconvnet.explorer.occlusion_stream._FIRST_BATCH_SIZE", batch)
    first, parts = occlusion(client, image_path, size=9, stride=5)
    occluder = Occluder(9, 5)
    unit = int(network.activations(x[None], "conv2")[0].flatten(1).amax(dim=1).argmax())
    best = int(network.probabilities(x[None]).argmax())
    totals, log_probabilities = forward_occluded_in_batches(network, x, occluder, occluder.corners(32), "conv2", unit)
    assert first.pop("whole_probability") == pytest.approx(float(network.probabilities(x[None])[0, best]), rel=1e-5)
    unoccluded = float(network.activations(x[None], "conv2")[0, unit].sum())
    assert first.pop("whole_activation") == pytest.approx(unoccluded, rel=1e-5)
    assert first == {
        "positions": 25,
        "starts": [0, 5, 10, 15, 20],
        "size": 9,
        "layer": "conv2",
        "unit": unit,
        "class": best,
        "class_name": CLASSES[best][1].partition(",")[0],
    }
    assert [value for part in parts for value in part["activation"]] == pytest.approx(totals.tolist(), rel=1e-4)
    actual = [value for part in parts for value in part["probability"]]
    assert actual == pytest.approx(log_probabilities[:, best].exp().tolist(), rel=1e-4)
    assert parts[-1]["done"] == 25
    assert len(parts[0]["activation"]) == min(batch, 25)


def test_an_occlusion_map_of_another_unit_and_class(client, network, image_path, x):
    first, parts = occlusion(client, image_path, size=20, stride=12, layer="conv1", unit=3, **{"class": 2})
    occluder = Occluder(20, 12)
    totals, log_probabilities = forward_occluded_in_batches(network, x, occluder, occluder.corners(32), "conv1", 3)
    assert (first["layer"], first["unit"], first["class"], first["class_name"]) == ("conv1", 3, 2, "cat")
    assert [v for part in parts for v in part["activation"]] == pytest.approx(totals.tolist(), rel=1e-4)
    assert [v for part in parts for v in part["probability"]] == pytest.approx(
        log_probabilities[:, 2].exp().tolist(), rel=1e-4
    )


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ({"size": 33}, 422, "does not fit"),
        ({"size": 0}, 422, "size"),
        ({"stride": 10**9}, 422, "stride"),
        ({"size": "5"}, 422, "size"),
        ({"size": 5, "extra": 1}, 422, "extra"),
        ({"size": 5, "layer": "conv7"}, 404, "conv7"),
        ({"size": 5, "layer": "conv1", "unit": 5}, 404, "units 0 to 4"),
        ({"size": 5, "unit": 6}, 404, "units 0 to 5"),
        ({"size": 5, "class": 3}, 422, "no class 3"),
    ],
)
def test_what_no_occlusion_map_can_be_made_of(client, explorer, image_path, options, status, message):
    answer = client.post(image_path + "/occlusion", json=options)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert message in answer.json()["error"]
    assert explorer.stream_count == 0


def test_too_many_positions(client, image_path, monkeypatch):
    monkeypatch.setattr("deconvnet.explorer.occlusion_stream.MAX_POSITIONS", 24)
    answer = client.post(image_path + "/occlusion", json={"size": 9, "stride": 5})
    assert answer.status_code == 422
    assert answer.json() == {"error": "25 positions are more than 24: choose a longer step."}


def test_an_error_midway_is_a_line(client, explorer, image_path, monkeypatch):
    run_batch, calls = OcclusionSweep.run_batch, []

    def fail(sweep):
        calls.append(1)
        if len(calls) == 2:
            raise ValueError("something with /a/path")
        return run_batch(sweep)

    monkeypatch.setattr(OcclusionSweep, "run_batch", fail)
    _, parts = occlusion(client, image_path, size=9, stride=5)
    assert list(parts[-1]) == ["error"]
    assert "path" not in parts[-1]["error"]
    assert explorer.stream_count == 0


def test_a_rectangle_is_covered(client, network, image_path, x):
    actual = client.post(image_path + "/occluded", json={"left": 20, "top": -5, "width": 100, "height": 15}).json()
    covered = x.clone()
    covered[:, :10, 20:] = 0
    before, after = network.probabilities(x[None])[0], network.probabilities(covered[None])[0]
    assert {c["number"] for c in actual["classes"]} == {0, 1, 2}
    for entry in actual["classes"]:
        assert entry["before"] == pytest.approx(before[entry["number"]].item(), rel=1e-4)
        assert entry["probability"] == pytest.approx(after[entry["number"]].item(), rel=1e-4)
    larger = [max(entry["before"], entry["probability"]) for entry in actual["classes"]]
    assert larger == sorted(larger, reverse=True)
    assert [unit["layer"] for unit in actual["units"]] == ["conv1", "conv2", "fc3"]
    for entry in actual["units"]:
        unoccluded = (
            network.activations(x[None], entry["layer"])[0].reshape(network.layer(entry["layer"]).units, -1).amax(dim=1)
        )
        occluded = network.activations(covered[None], entry["layer"])[0].reshape(len(unoccluded), -1).amax(dim=1)
        assert entry["unit"] == int(unoccluded.argmax())
        assert entry["before"] == pytest.approx(unoccluded.max().item(), rel=1e-5)
        assert entry["value"] == pytest.approx(occluded[entry["unit"]].item(), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("rectangle", "box"),
    [
        ((0, 0, 32, 32), (0, 0, 32, 32)),
        ((-10, -10, 15, 12), (0, 0, 5, 2)),
        ((-10, 5, 3, 3), (0, 5, 1, 8)),
        ((40, 31, 5, 5), (31, 31, 32, 32)),
        ((3, 4, 1, 1), (3, 4, 4, 5)),
        ((-9, -9, 99, 99), (0, 0, 32, 32)),
    ],
)
def test_rectangles_are_clipped(rectangle, box):
    assert clip_rectangle(*rectangle, crop=32) == box


def test_a_trunk_has_no_classes(network):
    trunk = Network(network.module, network.preprocessing, name="trunk", classifies=False)
    explorer = Explorer([ServedModel("trunk", "trunk", None, LoadedNetwork(trunk), None)])
    client = Client(explorer)
    image_path = f"/api/photos/{upload_image(client, image_bytes()).json()['photo']}/trunk"
    assert client.get("/api/networks").json()[0]["classifies"] is False
    assert client.get(image_path).json()["classes"] is None
    assert (
        client.post(image_path + "/occluded", json={"left": 0, "top": 0, "width": 9, "height": 9}).json()["classes"] is None
    )
    first, parts = occlusion(client, image_path, size=20, stride=12)
    assert (first["class"], first["class_name"], first["whole_probability"]) == (None, None, None)
    assert all(part["probability"] is None for part in parts)
    assert client.post(image_path + "/occlusion", json={"size": 20, "class": 0}).status_code == 422
    client.close()
    explorer.close()


def test_pages_and_pictures(client, folder):
    pages = page_files(folder, live="/?network=little-atlas")
    for address, kind, content in [
        ("/atlas/little-atlas/index.html", "text/html; charset=utf-8", pages["index.html"]),
        ("/atlas/little-atlas/pages/atlas.js", "text/javascript; charset=utf-8", pages["pages/atlas.js"]),
        ("/atlas/little-atlas/pages/units-1-0.js", "text/javascript; charset=utf-8", pages["pages/units-1-0.js"]),
        ("/shared/style.css", "text/css; charset=utf-8", shared_assets()["style.css"]),
        ("/shared/icon.svg", "image/svg+xml", shared_assets()["icon.svg"]),
        ("/atlas/little-atlas/conv1/0000.webp", "image/webp", (folder / "conv1" / "0000.webp").read_bytes()),
        ("/atlas/little-atlas/filters.png", "image/png", (folder / "filters.png").read_bytes()),
    ]:
        answer = client.get(address)
        assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, kind, content)
        lasting = "private, max-age=3600" if kind in ("image/webp", "image/png") else "no-cache"
        assert answer.headers["cache-control"] == lasting
    assert client.get("/").headers["content-type"] == "text/html; charset=utf-8"
    assert client.get("/").content == client.get("/live/index.html").content
    (entry,) = client.get("/api/networks").json()
    assert entry["pictured"] == {"conv1": "all", "conv2": "all"}
    assert 5 < len(entry["samples"]) <= 10
    assert all(client.get(address).headers["content-type"] == "image/webp" for address in entry["samples"])
    for address in ("/atlas/little-atlas", "/atlas/little-atlas/"):
        answer = client.get(address, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (307, "/atlas/little-atlas/index.html")
    for address in (
        "/live/other.js",
        "/shared/other",
        "/atlas/other/index.html",
        "/atlas/other",
        "/atlas/little-atlas/no.png",
    ):
        assert client.get(address).status_code == 404
