"""Two networks beside each other, with findings that are known beforehand."""

import json
from dataclasses import replace
from math import nan

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deconvnet import DeconvnetError, UsageError, mine, project
from deconvnet.data import find_images, torchvision_preprocessing
from deconvnet.experiments.fig6_comparison import LayerStats, NetworkStats, compare, write_comparison
from deconvnet.experiments.fig6_comparison import compute as compare_module
from deconvnet.experiments.fig6_comparison.findings import findings
from deconvnet.experiments.fig6_comparison.spectra import Spectra
from deconvnet.models import Network, load


@pytest.fixture
def other(small_network):
    """Another architecture, whose first layer has a copy and a stride of 1."""
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 7, 3),
        nn.ReLU(),
        nn.Conv2d(7, 5, 3),
        nn.ReLU(),
    ).eval()
    with torch.no_grad():
        module[0].weight[2] = module[0].weight[0]
    return Network(module, torchvision_preprocessing(32, 32), name="other", layer_names=["a", "b", "c"], classifies=False)


def test_layers_are_measured_over_all_photos(small_network, other, photo_folder):
    result = compare(small_network, other, photo_folder, units=3)
    for network, stats in zip((small_network, other), result.networks, strict=True):
        mined = mine(network, photo_folder, list(network.layers))
        assert stats.network == network.full_name
        assert stats.sha256 == network.digest
        assert list(stats.layers) == list(network.layers)
        for name, layer in stats.layers.items():
            assert torch.equal(layer.active_fraction, mined[name].statistics.active_share)
            filters = network.layer_filters(name).weights.double()
            torch.testing.assert_close(layer.rms, filters.flatten(1).square().mean(dim=1).sqrt())
            assert (layer.aliasing is not None) == (name in network.convolutional_layers[:2])
    small, second = result.networks
    assert small.layers["conv1"].dead.tolist() == [False] * 4 + [True]
    assert second.layers["a"].duplicates.tolist() == [True, False, True, False]
    assert not second.layers["a"].aliasing.any()  # stride 1
    assert result.read_count == 18
    assert result.as_json()["images"]["digest"] == find_images(photo_folder).digest


def test_blocks_are_the_projections_of_the_strongest_activations(small_network, other, photo_folder):
    result = compare(small_network, other, photo_folder, units=2)
    for network, stats in zip((small_network, other), result.networks, strict=True):
        assert stats.shown_layer == network.convolutional_layers[1]
        assert len(stats.shown_units) == 2
        mined = mine(network, photo_folder, [stats.shown_layer])
        for shown in stats.shown_units:
            hit = mined[stats.shown_layer][shown.unit][0]
            x = network.preprocess(mined.image_set.read(hit.image))[None]
            found = project(network, x, layer=stats.shown_layer, unit=shown.unit, position=(hit.row, hit.column))
            left, top, right, bottom = network.layer(stats.shown_layer).field.patch_box(hit.row, hit.column)
            torch.testing.assert_close(shown.projections[0], found.as_subclass(torch.Tensor)[0, :, top:bottom, left:right])


def test_a_seed_decides_and_nothing_else_does(small_network, other, photo_folder):
    first = compare(small_network, other, photo_folder, units=3, seed=4)
    again = compare(small_network, other, photo_folder, units=3, seed=4, batch_size=5, workers=1)
    units = [[shown.unit for shown in stats.shown_units] for stats in first.networks]
    assert units == [[shown.unit for shown in stats.shown_units] for stats in again.networks]
    assert first.as_json()["findings"] == again.as_json()["findings"]
    other_seed = compare(small_network, other, photo_folder, units=3, seed=5)
    assert units != [[shown.unit for shown in stats.shown_units] for stats in other_seed.networks]


def test_one_photo_one_unit_and_a_layer_that_is_dead(small_network, tmp_path):
    Image.fromarray(np.full((5, 4, 3), 200, np.uint8)).save(tmp_path / "tiny.png")  # smaller than the input
    module = nn.Sequential(nn.Conv2d(3, 1, 3), nn.ReLU(), nn.Conv2d(1, 1, 3), nn.ReLU()).eval()
    with torch.no_grad():
        module[0].weight.zero_()
        module[0].bias.fill_(-1)
        module[2].bias.fill_(-1)
    dead = Network(module, torchvision_preprocessing(32, 32), name="dead", layer_names=["conv1", "conv2"], classifies=False)
    result = compare(dead, small_network, tmp_path, units=1)
    assert result.networks[0].layers["conv1"].dead.all()
    assert result.networks[0].spectra.frequency.isnan().all()
    assert len(result.networks[0].shown_units[0].patches) == 0
    for figure in result.figures().values():
        figure.savefig("/dev/null", format="png")
    json.dumps(result.as_json(), allow_nan=False)
    said = " ".join(finding.measured for finding in result.findings)
    assert "1 of 1 in dead" in said
    assert "inf" not in said
    assert "nan" not in said


def test_networks_of_one_name_are_told_apart_by_their_weights(photo_folder):
    """As two trainings of one network, with and without renormalisation, are called alike."""

    def trained(seed):
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
        return Network(module, torchvision_preprocessing(32, 32), name="net", weights=weights, classifies=False)

    weights = ""
    nameless = trained(0), trained(1)
    pair = compare(*nameless, photo_folder, units=1).networks
    assert [stats.network for stats in pair] == [f"net ({network.digest[:8]})" for network in nameless]
    weights = "2 classes"
    networks = trained(0), trained(1)
    result = compare(*networks, photo_folder, units=1)
    assert [stats.network for stats in result.networks] == [f"net (2 classes, {network.digest[:8]})" for network in networks]
    assert all(stats.network in result.findings[0].measured for stats in result.networks)


def test_batch_normalisation_hides_how_strong_filters_are(small_network, photo_folder):
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()
    ).eval()
    with torch.no_grad():
        module[0].weight[1] = 1e-6 * module[0].weight[0]
    normed = Network(module, torchvision_preprocessing(32, 32), name="normed", layer_names=["a", "b"], classifies=False)
    result = compare(normed, small_network, photo_folder, units=1)
    layer = result.networks[0].layers["a"]
    assert layer.rms is layer.is_faint is None
    assert layer.duplicates.tolist() == [True, True, False, False]
    assert not any("faint" in finding.measured and "active" in finding.measured for finding in result.findings)
    assert not any("RMS" in finding.measured for finding in result.findings)


def test_many_layers_and_odd_names_can_be_drawn(small_network, photo_folder):
    parts = [nn.Conv2d(3, 2, (3, 5)), nn.ReLU()]
    for _ in range(30):
        parts += [nn.Conv2d(2, 2, 1), nn.ReLU()]
    deep = Network(
        nn.Sequential(*parts).eval(), torchvision_preprocessing(32, 32), name="a$\\b$", weights="x^$_", classifies=False
    )
    for figure in compare(deep, small_network, photo_folder, units=1).figures().values():
        figure.savefig("/dev/null", format="png")


def test_what_cannot_be_compared_is_refused_before_anything_is_mined(small_network, photo_folder, monkeypatch):
    monkeypatch.setattr(compare_module, "mine", None)
    silu = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.SiLU(), nn.Conv2d(4, 4, 3), nn.ReLU()).eval()
    smooth = Network(silu, torchvision_preprocessing(32, 32), name="smooth")
    with pytest.raises(DeconvnetError, match="silu"):
        compare(small_network, smooth, photo_folder)
    with pytest.raises(UsageError, match="0 units cannot be shown"):
        compare(small_network, small_network, photo_folder, units=0)


def test_without_filters_there_is_no_sheet(small_network, photo_folder):
    module = nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.ReLU()).eval()
    odd = Network(module, torchvision_preprocessing(32, 32), name="odd", layer_names=["only"], classifies=False)
    result = compare(odd, small_network, photo_folder, units=2)
    assert set(result.figures()) == {"blocks", "measures"}
    assert result.networks[0].shown_layer == "only"
    assert not any("second layer" in finding.measured for finding in result.findings)
    assert result.as_json()["networks"][0]["first_layer"] is None


def test_a_network_of_fully_connected_layers_is_refused(small_network, photo_folder):
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4), nn.ReLU())
    flat = Network(module, torchvision_preprocessing(32, 32), name="flat")
    with pytest.raises(DeconvnetError, match="flat has no convolutional layer"):
        compare(small_network, flat, photo_folder)


def network_stats(name, *, middle=0, dead=0, copies=0, aliased=0.1, below=0.1, dominant=1.0, units=50):
    """A network of which so many of 50 first-layer units are like this."""

    def first(count):
        return torch.arange(units) < count

    bands = torch.where(first(middle), 0.2, 0.4).double()
    rms = torch.ones(units, dtype=torch.float64)
    rms[0] = dominant
    measures = LayerStats(
        active_fraction=torch.where(first(dead), 0.0, 0.5).double(),
        rms=rms,
        nearest_cosine=torch.where(first(copies), 0.95, 0.1).double(),
        is_faint=torch.zeros(units, dtype=torch.bool),
        aliasing=aliased + torch.linspace(0, 0.01, units, dtype=torch.float64),
        first_stride_aliasing=below + torch.linspace(0, 0.01, units, dtype=torch.float64),
    )
    spectra = Spectra(bands, torch.zeros(units).double(), torch.full((units, 3), 1 / 3).double())
    layers = {"conv1": measures, "conv2": replace(measures, aliasing=torch.full((units,), torch.nan).double())}
    return NetworkStats(f"{name} (somebody's)", "", layers, torch.zeros(units, 3, 11, 11), spectra, "conv2", [], [])


@pytest.mark.parametrize(
    ("number", "has_it", "has_not", "words"),
    [
        (0, {"middle": 3}, {"middle": 30}, "3 of 50 in one, 30 of 50 in two (p = "),
        (1, {"dead": 20}, {"dead": 1}, "20 of 50 in one, 1 of 50 in two (p = "),
        (2, {"copies": 14}, {"copies": 0}, "14 of 50 in one, 0 of 50 in two (p = "),
        (3, {"aliased": 0.4}, {"aliased": 0.1}, "median: 40.5% in one, 10.5% in two (p = "),
        (4, {"below": 0.3}, {"below": 0.2}, "the first layer's steps cannot hold, median: 30.5% in one, 20.5% in two (p = "),
        (5, {"dominant": 9.0}, {"dominant": 1.5}, "9.0 times the RMS of the median filter in one, 1.5 times in two"),
    ],
)
def test_findings_say_which_network_has_what_the_paper_reports(number, has_it, has_not, words):
    found = findings((network_stats("one", **has_it), network_stats("two", **has_not)), 500)
    assert found[number].seen_in == (True, False)
    assert len(found) == 6
    assert words in found[number].measured
    assert "one has the finding" in found[number].measured
    assert all(finding.seen_in in (None, (False, False)) for place, finding in enumerate(found) if place != number)
    swapped = findings((network_stats("two", **has_not), network_stats("one", **has_it)), 500)[number]
    assert swapped.seen_in == (False, True)
    assert "one has the finding" in swapped.measured


def test_differences_that_may_be_chance_are_none():
    for finding in findings((network_stats("one", middle=10, dead=2), network_stats("two", middle=12, dead=3)), 500)[:5]:
        assert finding.seen_in is None
    assert "no difference beyond chance" in findings((network_stats("one"), network_stats("two")), 500)[0].measured
    undefined = findings((network_stats("one", below=nan), network_stats("two")), 500)[4]
    assert "No unit of the second layer answers" in undefined.measured


def test_networks_of_one_name_and_different_weights_are_called_by_both():
    one, two = network_stats("net", dead=20), replace(network_stats("net"), network="net (others)")
    assert "20 of 50 in net (somebody's), 0 of 50 in net (others)" in findings((one, two), 500)[1].measured


def test_the_network_whose_answers_are_aliased_more_has_the_finding_whatever_the_medians():
    one, two = network_stats("one"), network_stats("two")
    some = (torch.arange(50) >= 30).double()
    one.layers["conv1"] = replace(one.layers["conv1"], aliasing=some)
    two.layers["conv1"] = replace(two.layers["conv1"], aliasing=torch.zeros(50).double())
    assert findings((one, two), 500)[3].seen_in == (True, False)


def test_faint_filters_count_as_dead_and_prefer_nothing():
    one, two = network_stats("one", middle=30), network_stats("two", middle=30)
    one.layers["conv1"] = replace(one.layers["conv1"], is_faint=torch.arange(50) < 30)
    found = findings((one, two), 500)
    assert "0 of 20 in one, 30 of 50 in two" in found[0].measured
    assert "30 of 50 in one, 0 of 50 in two" in found[1].measured


def test_a_killed_comparison_goes_on(small_network, other, photo_folder, tmp_path, monkeypatch):
    mined, aliased_fractions = [], compare_module.aliased_fractions

    def count(network, *args, **options):
        mined.append(options["state"].exists())
        return mine(network, *args, **options)

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(compare_module, "mine", count)
    monkeypatch.setattr(compare_module, "aliased_fractions", stop)
    with pytest.raises(KeyboardInterrupt):
        write_comparison(tmp_path / "out", small_network, other, photo_folder, units=2)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(compare_module, "aliased_fractions", aliased_fractions)
    result = write_comparison(tmp_path / "out", small_network, other, photo_folder, units=2)
    assert mined == [False, False, True, True]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "blocks.png",
        "comparison.json",
        "filters.png",
        "measures.png",
    ]
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == json.loads(json.dumps(result.as_json()))
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.usefixtures("bars_that_end")
def test_on_the_command_line(network_file, photo_folder, tmp_path, deconvnet_command):
    networks = [f"{network_file}:{name}" for name in ("one", "other")]
    code, printed, _ = deconvnet_command(
        "compare", *networks, photo_folder, "--out", tmp_path / "out", "--units", 2, "--device", "cpu"
    )
    assert code == 0
    assert "filters of the first layer" in printed.lower()
    assert (tmp_path / "out" / "filters.png").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_measures_what_the_cpu_measures(small_network, other, photo_folder):
    on_cpu = compare(small_network, other, photo_folder, units=2)
    on_gpu = compare(small_network.to("cuda"), other.to("cuda"), photo_folder, units=2)
    for one, same in zip(on_cpu.networks, on_gpu.networks, strict=True):
        for name, layer in one.layers.items():
            for measure in ("active_fraction", "rms", "nearest_cosine", "aliasing", "first_stride_aliasing"):
                values = getattr(layer, measure), getattr(same.layers[name], measure)
                torch.testing.assert_close(*values, rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.data
def test_the_pre_trained_alexnet_beside_zfnet_over_photos_of_imagenet(data):
    trunk = load("alexnet2012", data / "bvlc_alexnet_trunk.safetensors")
    photos = sorted((data / "imagenet_sample").glob("*/*"))[::40]
    result = compare(trunk, load("zfnet"), photos, units=1)
    alexnet, zfnet = (stats.layers["conv1"] for stats in result.networks)
    assert int(alexnet.is_faint.sum()) == 3  # grey squares of the published filters
    assert alexnet.aliasing.nanmedian() > 2 * zfnet.aliasing.nanmedian()  # stride 4 and 2
    assert [stats.filters.shape[2:] for stats in result.networks] == [(11, 11), (7, 7)]
