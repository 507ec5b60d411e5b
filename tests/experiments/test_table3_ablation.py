"""Table 3: the sizes of its variants, and one tiny ablation from photos to table."""

import csv
import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deconvnet.data import find_images
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.experiments.table2_errors import evaluate
from deconvnet.experiments.table3_ablation import compute as ablation
from deconvnet.experiments.table3_ablation.compute import select_variants
from deconvnet.experiments.table3_ablation.variants import VARIANTS, Errors, network_size
from deconvnet.models import AlexNet2012, AlexNetOptions, ZFNet, ZFNetOptions, load
from deconvnet.training import Recipe

RECIPE = Recipe(epochs=1, batch_size=3, learning_rate=1e-3, init="he", input_std=58.0, network={"hidden": 8, "removed": ()})
TWO = ("alexnet2012-no34", "alexnet2012-no3467")

ablate = partial(ablation.ablate, device="cpu")

#: By label: errors in %, and the sizes that the paper's numbers imply, parameters in millions and multiply-adds in millions.
TABLE_3 = {
    "alexnet2012": (35.1, 40.5, 18.1, 61.0, 724),
    "alexnet2012-no34": (41.8, 45.4, 22.1, 59.3, 438),
    "alexnet2012-no7": (27.4, 40.0, 18.4, 44.2, 708),
    "alexnet2012-no67": (27.4, 44.8, 22.4, 11.6, 675),
    "alexnet2012-no3467": (71.1, 71.3, 50.1, 9.9, 388),
    "alexnet2012-fc2048": (40.3, 41.7, 18.8, 27.5, 691),
    "alexnet2012-fc8192": (26.8, 40.0, 18.1, 153, 817),
    "zfnet": (33.1, 38.4, 16.5, 62.4, 1168),
    "zfnet-fc2048": (38.2, 40.2, 17.6, 28.8, 1135),
    "zfnet-fc8192": (22.0, 38.8, 17.0, 155, 1260),
    "zfnet-wide": (18.8, 37.5, 16.0, 108, 2477),
    "zfnet-wide-fc8192": (10.0, 38.3, 16.9, 238, 2607),
}


def test_the_variants_have_the_papers_errors():
    assert [variant.label for variant in VARIANTS] == list(TABLE_3)
    for variant in VARIANTS:
        assert variant.paper == Errors(*(pytest.approx(percent / 100) for percent in TABLE_3[variant.label][:3]))


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.label)
def test_sizes_are_those_of_the_papers_networks(variant):
    size, (*_, parameters, multiply_adds) = network_size(variant), TABLE_3[variant.label]
    assert round(size.parameters / 1e6, 1 if isinstance(parameters, float) else None) == parameters
    assert round(size.multiply_adds / 1e6) == multiply_adds
    is_zfnet, is_wide = variant.network != "alexnet2012", variant.network == "zfnet-wide"
    middle = [512, 1024, 512] if is_wide else [384, 384, 256]
    sides = [110, 26, 13, 13, 13] if is_zfnet else [55, 27, 13, 13, 13]
    hidden = variant.options.get("hidden", 4096)
    expected = {f"conv{n}": (maps, side, side) for n, maps, side in zip(range(1, 6), [96, 256, *middle], sides, strict=True)}
    expected |= {"fc6": (hidden,), "fc7": (hidden,)}
    for number in variant.options.get("removed", ()):
        del expected[f"conv{number}" if number < 6 else f"fc{number}"]
    assert dict(size.layers) == expected


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.label)
def test_multiply_adds_are_those_that_a_pass_makes(variant):
    options = {"removed": variant.options.get("removed", ()), "hidden": variant.options.get("hidden", 4096)}
    total = 0

    def count(layer, _, output):
        nonlocal total
        is_linear = isinstance(layer, nn.Linear)
        inputs = layer.in_features if is_linear else layer.in_channels // layer.groups * layer.kernel_size[0] ** 2
        total += output[0].numel() * inputs

    with torch.device("meta"):
        if variant.network == "alexnet2012":
            module, side = AlexNet2012(AlexNetOptions(**options)), 227
        else:
            middle = (512, 1024, 512) if variant.network == "zfnet-wide" else (384, 384, 256)
            module, side = ZFNet(ZFNetOptions(middle=middle, **options)), 224
        for submodule in module.modules():
            if isinstance(submodule, nn.Conv2d | nn.Linear):
                submodule.register_forward_hook(count)
        module(torch.zeros(1, 3, side, side))
    size = network_size(variant)
    assert size.multiply_adds == total
    assert size.parameters == sum(tensor.numel() for tensor in module.parameters())


def test_a_recipes_options_hold_where_a_variant_changes_nothing():
    zfnet, narrow = select_variants(["zfnet", "zfnet-fc2048"])
    options = {"hidden": 16, "classes": 10}
    assert network_size(zfnet, options).layers["fc6"] == (16,)
    assert network_size(narrow, options).layers["fc6"] == (2048,)
    assert network_size(zfnet, options).parameters == sum(p.numel() for p in ZFNet(ZFNetOptions(**options)).parameters())


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch):
    """Batches are padded: of 32 rows, 29 would be empty."""
    monkeypatch.setattr(ablation, "evaluate", partial(evaluate, batch_size=3))


@pytest.fixture
def photos(tmp_path):
    """Sets `train` and `val` of small photos in three classes, one colour to each but for noise."""
    random = np.random.default_rng(0)
    for name, each in (("train", 2), ("val", 1)):
        for number, label in enumerate(("ant", "bee", "cat")):
            (tmp_path / "photos" / name / label).mkdir(parents=True)
            for index in range(each):
                pixels = random.integers(0, 150, (9, 8 + index, 3), dtype=np.uint8)
                pixels[:, :, number] += 60
                image = Image.fromarray(pixels).resize((60 + 9 * index, 70), Image.Resampling.BICUBIC)
                image.save(tmp_path / "photos" / name / label / f"{index}.png")
    return tmp_path / "photos"


# From photos to table


def table(file):
    return list(csv.DictReader(file.read_text().splitlines()))


def stop_at(monkeypatch, function, call):
    """Ctrl-C where a function of the ablation is called for the `call`-th time."""
    real, calls = getattr(ablation, function), []

    def stopping(*arguments, **options):
        calls.append(function)
        if len(calls) == call:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(ablation, function, stopping)


@pytest.mark.slow
def test_an_interrupted_ablation_is_resumed_and_ends_as_an_uninterrupted_one(photos, tmp_path, monkeypatch):
    expected, out = ablate(photos, tmp_path / "uninterrupted", RECIPE, only=TWO), tmp_path / "out"
    trained = []
    for function, call in (("evaluate", 1), ("train", 2)):  # before the first is judged, before the second is trained
        with monkeypatch.context() as patch:
            stop_at(patch, function, call)
            with pytest.raises(KeyboardInterrupt):
                ablate(photos, out, RECIPE, only=TWO)
        trained.append((out / TWO[0] / "weights.safetensors").stat().st_mtime_ns)
    half_done = table(out / "ablation.csv")
    assert ablate(photos, out, RECIPE, only=TWO) == expected
    trained.append((out / TWO[0] / "weights.safetensors").stat().st_mtime_ns)
    assert len(set(trained)) == 1
    assert sorted(path.name for path in out.iterdir()) == ["ablation.csv", "ablation.json", "ablation.png", *TWO]

    rows = {row["label"]: row for row in table(out / "ablation.csv")}
    written = {row["label"]: row for row in json.loads((out / "ablation.json").read_text())["rows"]}
    assert list(rows) == list(written) == list(TABLE_3)
    for row in expected.rows:
        label, is_measured = row.variant.label, row.ours is not None
        assert is_measured == (label in TWO) == bool(rows[label]["val_top1"]) == (written[label]["ours"] is not None)
    assert [row["label"] for row in half_done if row["val_top1"]] == [TWO[0]]

    net = load("alexnet2012", out / TWO[0] / "weights.safetensors")
    assert net.module.options == AlexNetOptions(classes=3, hidden=8, removed=(3, 4))
    sets = {name: find_images(photos / name) for name in ("train", "val")}
    central, ten = (
        evaluate([net], sets[name], views, batch_size=3).networks[0] for name, views in (("train", 1), ("val", 10))
    )
    errors = Errors(central.top1.rate, ten.top1.rate, ten.top5.rate)
    assert Errors(**written[TWO[0]]["ours"]) == errors
    (logged,) = table(out / TWO[0] / "log.csv")
    val_error = evaluate([net], sets["val"], 1, batch_size=3).networks[0].top1.rate
    assert val_error == pytest.approx(float(logged["val_error_top1"]))

    (out / TWO[0] / "errors.json").unlink()
    calls = []

    def recorded(networks, image_set, views, **_):
        calls.append((len(image_set), views))
        return evaluate(networks, image_set, views, batch_size=3)

    monkeypatch.setattr(ablation, "evaluate", recorded)
    assert ablate(photos, out, RECIPE, only=TWO[:1]).rows[1].ours == errors
    assert calls == [(6, 1), (3, 10)]

    with pytest.raises(DeconvnetError, match=r"holds an ablation with another seed: go on with"):
        ablate(photos, out, RECIPE, seed=1)
    with pytest.raises(DeconvnetError, match=r"holds an ablation with another recipe: go on with"):
        ablate(photos, out, "paper")
    (photos / "train" / "ant" / "0.png").unlink()
    with pytest.raises(DeconvnetError, match=r"holds an ablation with other photos: go on with"):
        ablate(photos, out, RECIPE)


def test_another_process_may_just_have_begun(photos, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / ".ablation.123.partial.json").write_text("{")
    assert ablate(photos, out, RECIPE, only=[]).rows[0].ours is None
    assert len(table(out / "ablation.csv")) == len(VARIANTS)


def test_a_variant_that_does_not_learn_is_named(photos, tmp_path):
    at_chance = replace(RECIPE, learning_rate=1e-12, chance_patience=1, init="normal")
    with pytest.raises(DeconvnetError, match="no better than chance") as caught:
        ablate(photos, tmp_path / "out", at_chance, only=TWO[:1])
    assert caught.value.__notes__ == ["(This was alexnet2012-no34; --only trains the others.)"]


def test_what_cannot_be_done_is_refused_before_anything_is_written(photos, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with pytest.raises(UsageError, match=r"no variant 'resnet18'; there are alexnet2012, alexnet2012-no34, .*, zfnet-wide"):
        ablate(photos, out, RECIPE, only=["zfnet", "resnet18"])
    with pytest.raises(DeconvnetError, match="alexnet2012 has an unknown option 'order'"):
        ablate(photos, out, replace(RECIPE, network={"order": "norm-pool"}))
    with pytest.raises(DeconvnetError, match="There is no folder"):
        ablate(tmp_path / "nowhere", out, RECIPE)
    with pytest.raises(UsageError, match=r"photos exists already and is no ablation: choose another --out\."):
        ablate(photos, photos, RECIPE)
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "2")
    with pytest.raises(UsageError, match="is trained by one process"):
        ablate(photos, out, RECIPE)
    assert not out.exists()
