"""Snapshots whose answers are known: layers frozen from a stated epoch on."""

import copy
import json
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from deconvnet import DeconvnetError, UsageError, cli, mine, project
from deconvnet.data import Preprocessing, find_images, read_image
from deconvnet.data.transforms import per_channel
from deconvnet.experiments.fig4_evolution import compute as evolve_module
from deconvnet.experiments.fig4_evolution import open_snapshots, write_evolution
from deconvnet.experiments.fig4_evolution.convergence import convergence_epoch, similarity
from deconvnet.models import Network, ZFNet, ZFNetOptions, save_weights
from deconvnet.models.init import init_he

evolve = partial(evolve_module.evolve, device="cpu")

EPOCHS = [1, 2, 5, 10]
#: The epoch from which on a layer's weights are those of the end.
FROZEN = {"conv1": 1, "conv2": 2, "conv3": 5, "conv4": 10, "conv5": 10}


def trunk(crop=95, middle=(9, 8, 7)):
    module = ZFNet(ZFNetOptions(classes=0, middle=middle)).eval()
    init_he(module)
    torch.nn.init.kaiming_normal_(module.conv5.weight)  # which that takes for the last layer of a classifier
    preprocessing = Preprocessing(100, crop, 255.0, per_channel((120.0, 115.0, 105.0)), per_channel((58.0,) * 3))
    return Network(module, preprocessing, name="zfnet", weights="trained, seed 3", classifies=False)


def write_run(folder, **entries):
    folder.mkdir(exist_ok=True)
    described = {"format": 1, "network": "zfnet", "recipe": {"epochs": 10}, **entries}
    (folder / "run.json").write_text(json.dumps(described))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of ten epochs, whose last snapshot is the weights that it ends with."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("run")
    write_run(folder)
    network = trunk()
    end = copy.deepcopy(network.module.state_dict())
    for epoch in EPOCHS:
        network.module.load_state_dict(trunk().module.state_dict())
        now = {name: value for name, value in end.items() if FROZEN[name.partition(".")[0]] <= epoch}
        network.module.load_state_dict(now, strict=False)
        file = "weights.safetensors" if epoch == 10 else f"snapshots/epoch-{epoch:03d}.safetensors"
        save_weights(network, folder / file, torch.float32 if epoch == 10 else torch.float16)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(2)
    for number in range(6):
        coarse = random.integers(0, 256, (9, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((110, 100 + number), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff not much of a photo")
    return folder


@pytest.fixture(scope="module")
def evolution(run, photos):
    return evolve(run, photos, units=5, batch_size=3)


def test_a_layer_settles_when_it_is_frozen(evolution):
    assert evolution.epochs == EPOCHS
    assert evolution.convergence_epochs == {"conv1": 1, "conv2": 2, "conv3": 5, "conv4": None, "conv5": None}
    for name, layer in evolution.layers.items():
        for epoch, alike, same in zip(EPOCHS, layer.similarities, layer.same_image_fractions, strict=True):
            if epoch >= FROZEN[name]:
                assert alike > 0.999
                assert same > 0.95
            else:
                assert alike < 0.7


@pytest.mark.parametrize(
    ("medians", "epoch"),
    [
        ([0.9, 0.95, 0.99, 1.0], 1),
        ([0.95, 0.89, 0.99, 1.0], 5),  # it was like the end before, but did not stay so
        ([0.1, 0.2, 0.89, 1.0], None),
        ([float("nan")] * 4, None),
    ],
)
def test_settled_is_the_first_epoch_that_lasts(medians, epoch):
    assert convergence_epoch(EPOCHS, medians) == epoch
    assert convergence_epoch([1], [1.0]) is None


def test_similarity_is_the_correlation_of_all_places(run, photos):
    snapshots, found = open_snapshots(run), find_images(photos)
    one, two = snapshots.load(1), snapshots.load(10)
    with torch.no_grad():
        two.module.conv3.weight[4], two.module.conv3.bias[4] = 0, -1  # dead in the reference
        two.module.conv3.weight[6], two.module.conv3.bias[6] = 0, 5  # a constant one
        one.module.conv3.weight[5], one.module.conv3.bias[5] = 0, -1
        one.module.conv1.weight[:] = 3 * one.module.conv1.weight  # only louder
    alike = similarity(one, two, found, [0, 2, 3, 5])
    x = torch.stack([two.preprocess(found.read(index)) for index in (0, 2, 3, 5)])
    for name in ("conv1", "conv2", "conv3"):
        a, b = (net.activations(x, name).transpose(0, 1).flatten(1).double().numpy() for net in (one, two))
        with np.errstate(invalid="ignore", divide="ignore"):
            want = [np.corrcoef(first, second)[0, 1] for first, second in zip(a, b, strict=True)]
        if name == "conv1":
            assert alike[name].nanquantile(0) > 0.999
        if name == "conv3":
            want[4:7] = [np.nan, 0, np.nan]
        np.testing.assert_allclose(alike[name].numpy(), want, atol=1e-6)


def test_hits_and_projections_are_those_of_each_snapshot(run, photos, evolution):
    snapshots = open_snapshots(run)
    for column, epoch in enumerate(EPOCHS):
        network = snapshots.load(epoch)
        mined = mine(network, photos, top=1)
        for name, layer in evolution.layers.items():
            assert len(set(layer.units)) == 5
            for row, unit in enumerate(layer.units):
                hit = next(iter(mined[name][unit]), None)
                shown, projection = layer.hits[row][column], layer.projections[row, column]
                if hit is None:
                    assert shown is None
                    assert not projection.any()
                    continue
                assert (shown.image, shown.row, shown.column) == (hit.image, hit.row, hit.column)
                assert shown.value == pytest.approx(hit.value, rel=1e-4)
                x = network.preprocess(read_image(photos / hit.path))[None]
                whole = project(network, x, layer=name, unit=unit, position=(hit.row, hit.column))[0]
                left, top, right, bottom = network.layer(name).field.patch_box(hit.row, hit.column)
                torch.testing.assert_close(
                    projection, whole[:, top:bottom, left:right].as_subclass(torch.Tensor), rtol=1e-3, atol=1e-4
                )


def test_units_are_random_and_alive_at_the_end(run, photos, evolution):
    assert all(hits[-1] is not None for layer in evolution.layers.values() for hits in layer.hits)
    other = evolve(run, photos, units=7, seed=1, batch_size=3)
    assert other.layers["conv2"].units != evolution.layers["conv2"].units
    assert other.layers["conv5"].units == list(range(7))  # all, the dead ones too
    assert other.layers["conv4"].similarities == pytest.approx(evolution.layers["conv4"].similarities)  # of all units


def test_a_row_has_one_grey_scale(evolution):
    weak = torch.tensor([0.02, 1, 1, 1]).view(1, 4, 1, 1, 1)
    layers = {name: replace(layer, projections=layer.projections * weak) for name, layer in evolution.layers.items()}
    figure = replace(evolution, layers=layers).figure()
    drawn = [axes.get_images()[0].get_array() for axes in figure.axes if axes.get_images()]
    assert len(drawn) == 5
    for block in drawn:
        assert block.shape == (5 * 112 - 6, 4 * 112 - 6, 3)
        for row in range(5):
            cells = [block[row * 112 :, column * 112 :][:106, :106].astype(int) for column in range(4)]
            contrast = [np.abs(cell - 128).max() for cell in cells]
            assert contrast[0] < 40
            assert max(contrast) > 100


def test_the_command_writes_picture_and_json(run, photos, tmp_path, monkeypatch, capsys):
    out = tmp_path / "evolution"
    monkeypatch.setattr(sys, "argv", f"deconvnet evolve {run} {photos} --out {out} --units 2 --batch-size 3 --json".split())
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main()
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((out / "evolution.json").read_text())
    assert printed == {"out": str(out), **written}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evolution"]
    assert sorted(path.name for path in out.iterdir()) == ["evolution.json", "evolution.png"]
    with Image.open(out / "evolution.png") as picture:
        assert picture.width > 500
    assert written["settled"] == {"conv1": 1, "conv2": 2, "conv3": 5, "conv4": None, "conv5": None}
    assert written["images"] == {"digest": find_images(photos).digest, "found": 7, "read": 6}
    for layer in written["layers"].values():
        assert len(layer["units"]) == 2
        for hits in layer["units"].values():
            assert len(hits) == len(EPOCHS)
            assert (photos / hits[-1]["path"]).exists()


def test_a_stopped_evolution_goes_on(run, photos, tmp_path, monkeypatch):
    mined, compare = [], evolve_module.similarity

    def stop(network, reference, *arguments):
        if len(mined) == 3:
            raise KeyboardInterrupt
        return compare(network, reference, *arguments)

    def count(*arguments, **options):
        mined.append(options["state"].exists())
        return mine(*arguments, **options)

    monkeypatch.setattr(evolve_module, "mine", count)
    monkeypatch.setattr(evolve_module, "similarity", stop)
    with pytest.raises(KeyboardInterrupt) as stopped:
        write_evolution(tmp_path / "out", run, photos, 3, batch_size=3)
    assert "the same command goes on" in stopped.value.__notes__[0]
    assert not (tmp_path / "out").exists()
    assert mined == [False] * 3
    monkeypatch.setattr(evolve_module, "similarity", compare)
    again = write_evolution(tmp_path / "out", run, photos, 3, batch_size=3)
    assert mined[3:] == [True] * 3 + [False]
    assert again.as_json() == evolve(run, photos, 3, batch_size=3, state_folder=tmp_path).as_json()
    assert not (tmp_path / ".out.partial").exists()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda run: (run / "run.json").unlink(), "is no training run: pass the folder that `deconvnet train` has made"),
        (lambda run: (run / "run.json").write_text("{"), "run.json cannot be read (it is damaged)"),
        (lambda run: write_run(run, format=99), "is a run of another version of deconvnet"),
        (lambda run: (run / "snapshots" / "epoch-001.safetensors").unlink(), "has no snapshot yet"),
        (lambda run: write_run(run, network="alexnet2012"), "A snapshot of alexnet2012 was expected, but"),
        (
            lambda run: save_weights(trunk(middle=(3, 3, 3)), run / "weights.safetensors"),
            "epoch-001.safetensors is a snapshot",
        ),
        (lambda run: save_weights(trunk(crop=90), run / "weights.safetensors"), "epoch-001.safetensors is a snapshot"),
        (lambda run: (run / "snapshots" / "epoch-001.safetensors").write_bytes(b"cut"), "is not a whole safetensors file"),
    ],
)
def test_folders_that_are_no_run(photos, tmp_path, spoil, sentence):
    write_run(tmp_path / "run")
    save_weights(trunk(), tmp_path / "run" / "snapshots" / "epoch-001.safetensors")
    spoil(tmp_path / "run")
    with pytest.raises(DeconvnetError) as refused:
        write_evolution(tmp_path / "out", tmp_path / "run", photos, 1)
    assert sentence in str(refused.value)
    assert str(refused.value).endswith(".")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_wrong_use(run, photos, tmp_path):
    with pytest.raises(UsageError, match="conv5 has 7, so pass 1 to 7"):
        write_evolution(tmp_path / "out", run, photos, 8)
    assert not list(tmp_path.iterdir())
    (tmp_path / "empty").mkdir()
    with pytest.raises(DeconvnetError, match="There is no photo in"):
        evolve(run, tmp_path / "empty")
    with pytest.raises(UsageError, match="exists already"):
        write_evolution(photos, run, photos)
