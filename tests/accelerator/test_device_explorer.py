"""The live page with its networks on an accelerator: `deconvnet explore`, asked for everything that runs a network."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from deconvnet.explorer import server
from deconvnet.explorer.app_state import Explorer
from deconvnet.explorer.worker import Worker
from deconvnet.models import ARCHITECTURES
from helpers.emulated_accelerator import usable_in_threads
from helpers.exploring import Client, image_bytes, upload_image
from helpers.same_results import check_same
from helpers.small_training import SMALL

SPOT = {"left": 10, "top": 20, "width": 25, "height": 15}
SWEEP = {"size": 20, "stride": 9, "layer": "conv2", "unit": 3, "class": 1}


def ask_everything(models, device):
    """What the server answers to requests about one photo, by address; pictures as arrays."""
    explorer = Explorer(models)
    client = Client(explorer)
    try:
        (model,) = models
        assert model.loaded.network.device.type == device
        photo = f"/api/photos/{upload_image(client, image_bytes(size=(90, 80))).json()['photo']}/{model.key}"
        gets = ["", "/view.png"]
        for layer in model.loaded.network.layers:
            gets += [f"/layers/{layer}/3", f"/layers/{layer}/3/projection.png"]
        answers = {path: client.get(photo + path) for path in [*gets, "/layers/conv2/3/projection.png?row=1&column=2"]}
        answers["/occluded"] = client.post(f"{photo}/occluded", json=SPOT)
        answers["/occlusion"] = client.post(f"{photo}/occlusion", json=SWEEP)
        return {path: content(answer) for path, answer in answers.items()}
    finally:
        client.close()
        explorer.close()


def content(answer):
    assert answer.status_code == 200, answer.text
    if answer.headers["content-type"] == "image/png":
        return np.asarray(Image.open(io.BytesIO(answer.content))).astype(float)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    if len(lines) == 1:
        return lines[0]
    first, *batches = lines  # how many positions a batch has depends on how long one takes
    return [first, *([value for batch in batches for value in batch[name]] for name in ("probability", "activation"))]


@pytest.fixture
def explore(monkeypatch):
    """Run `deconvnet explore`, which serves in this process until `ask_everything` is answered; returns the answers."""
    monkeypatch.setattr(Worker, "_run_jobs", usable_in_threads(Worker._run_jobs))

    def explore(run, *words, device):
        answers = {}
        with monkeypatch.context() as patch:
            patch.setattr(server, "serve", lambda models, *_: answers.update(ask_everything(models, device)))
            run("explore", *words, "--port", 0)
        return answers

    return explore


def test_it_answers_as_on_the_cpu(inputs, explore, run_on_cpu, run_on_device, noise):
    words = ("--network", f"{inputs}/networks.py:one")
    wanted = explore(run_on_cpu, *words, device="cpu")
    found = explore(run_on_device, *words, device="emu")
    assert found.keys() == wanted.keys()
    for path, values in wanted.items():
        if isinstance(values, np.ndarray):
            # Rounding may turn a switch on the way down.
            assert np.abs(found[path] - values).mean() < (2 if noise and "projection" in path else 0.1), path
        else:
            check_same(found[path], values, max(1e-4, 100 * noise), path)  # answers are rounded to four digits and more


@pytest.mark.parametrize("noise", [0.0], indirect=True)
def test_an_atlass_network_is_loaded_on_the_device(small_run, tmp_path, explore, run_on_cpu, run_on_device, monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "zfnet", SMALL)
    weights, out = small_run / "run" / "weights.safetensors", tmp_path / "atlas"
    run_on_cpu("atlas", f"zfnet:{weights}", small_run / "photos" / "val", "--units", "0", "--out", out)
    wanted, found = explore(run_on_cpu, out, device="cpu"), explore(run_on_device, out, device="emu")
    check_same(found[""], wanted[""], 1e-5)
