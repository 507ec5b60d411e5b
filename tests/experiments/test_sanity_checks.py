"""The randomisation test and the deletion test, where the answer is known."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deconvnet import (
    DeconvnetError,
    UsageError,
    cli,
    project,
)
from deconvnet.data import torchvision_preprocessing
from deconvnet.experiments.fig7_occlusion.occluder import Occluder
from deconvnet.experiments.sanity_checks.curves import RandomisationCurve
from deconvnet.experiments.sanity_checks.occlusion_maps import delete, randomise_maps
from deconvnet.experiments.sanity_checks.projections import check_sanity, write_sanity
from deconvnet.experiments.sanity_checks.randomisation import (
    cascade,
    said,
    steps_down,
    weighted_parts,
)
from deconvnet.experiments.sanity_checks.similarity import likeness, rank_correlation
from deconvnet.models import Network
from deconvnet.projection import RULES
from oracles import plain_occlusion

CLASSES = [("ant", "ant"), ("bee", "bee"), ("cat", "cat")]


@pytest.fixture
def network(small_network):
    names = list(small_network.layers)
    return Network(small_network.module, small_network.preprocessing, name="small", layer_names=names, classes=CLASSES)


@pytest.fixture
def files(photo_folder):
    return [photo_folder / "ant" / "00.png", photo_folder / "bee" / "01.png"]


def test_rank_correlation_is_that_of_ranks():
    values = np.array([3.0, 1.0, 2.0, 2.0])
    others = np.array([9.0, 0.0, 4.0, 5.0])
    one, other = np.array([4, 1, 2.5, 2.5]), np.array([4, 1, 2, 3])
    assert rank_correlation(values, others) == pytest.approx(np.corrcoef(one, other)[0, 1])
    assert np.isnan(rank_correlation(values, np.ones(4)))


def test_likeness_sees_signs_only_where_it_says_so():
    one = torch.randn(3, 20, 20)
    assert likeness(one, 3 * one) == pytest.approx({"signed": 1, "absolute": 1, "ssim": 1}, abs=1e-6)
    opposite = likeness(one, -one)
    assert (opposite["signed"], opposite["absolute"]) == pytest.approx((-1, 1))
    assert opposite["ssim"] < 0.8
    unrelated = likeness(one, torch.randn(3, 20, 20))
    assert all(abs(value) < 0.15 for value in unrelated.values())
    assert all(np.isnan(value) for value in likeness(one, torch.zeros(3, 20, 20)).values())
    assert all(np.isnan(value) for value in likeness(one[:, :0], one[:, :0]).values())
    assert np.isnan(likeness(one[:, :5, :5], one[:, :5, :5])["ssim"])


def test_a_cascade_goes_from_the_top_down_and_leaves_the_network_alone(network):
    assert weighted_parts(network) == ["9", "7", "4", "0"]
    assert weighted_parts(network, "conv2") == ["4", "0"]
    assert weighted_parts(network, "conv1") == ["0"]
    before = {name: value.clone() for name, value in network.module.state_dict().items()}
    changed = []
    for random in cascade(network, steps_down(weighted_parts(network)), seed=3):
        now = random.module.state_dict()
        changed.append({name.partition(".")[0] for name, value in now.items() if not torch.equal(value, before[name])})
    assert changed == [{"9"}, {"9", "7"}, {"9", "7", "4"}, {"9", "7", "4", "0"}]
    assert all(torch.equal(value, before[name]) for name, value in network.module.state_dict().items())
    weight = next(cascade(network, [["7"]], seed=3)).module[7].weight
    assert float(weight.detach().std()) == pytest.approx(float(before["7.weight"].std()), rel=0.05)
    assert torch.equal(weight, next(cascade(network, [["7"]], seed=3)).module[7].weight)
    for other in ({"seed": 4}, {"seed": 3, "draw": 1}, {"seed": 2, "draw": 1}):
        assert not torch.equal(weight, next(cascade(network, [["7"]], **other)).module[7].weight)


def test_random_weights_have_the_mean_and_the_deviation_of_those_in_their_place():
    module = nn.Sequential(nn.Conv2d(3, 64, 7), nn.ReLU())
    with torch.no_grad():
        module[0].weight.normal_(3.0, 0.5)
    network = Network(module, torchvision_preprocessing(24, 24), name="shifted", classifies=False)
    weight = next(cascade(network, [["0"]], seed=0)).module[0].weight.detach()
    assert float(weight.mean()) == pytest.approx(3, abs=0.03)
    assert float(weight.std()) == pytest.approx(0.5, abs=0.02)


class HeadFirst(nn.Module):
    """Lists its head before its body, and a branch that does not run."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(4, 3, 3)
        self.aside = nn.Conv2d(4, 3, 3)
        self.body = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return torch.relu(self.head(torch.relu(self.body(x)))).mean(dim=(2, 3))


def test_what_runs_last_comes_first():
    network = Network(HeadFirst().eval(), torchvision_preprocessing(24, 24), name="head first", classes=CLASSES)
    assert weighted_parts(network) == ["head", "body"]


def test_what_cannot_be_copied_is_refused(files):
    with pytest.warns(FutureWarning):
        normed = nn.utils.weight_norm(nn.Conv2d(3, 4, 3))
    network = Network(nn.Sequential(normed, nn.ReLU()).eval(), torchvision_preprocessing(24, 24), name="n", classifies=False)
    network.activations(torch.zeros(1, 3, 24, 24), "1")
    with pytest.raises(DeconvnetError, match="n cannot be copied, so it cannot be made random"):
        check_sanity(network, files)


def test_statistics_of_batch_normalisation_are_learnt_too():
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, affine=False), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    module[1].running_mean = torch.arange(8.0)
    module[1].running_var = 1 + torch.arange(8.0)
    network = Network(module, torchvision_preprocessing(24, 24), name="normalised", classifies=False)
    assert weighted_parts(network, "2") == ["1", "0"]
    random = next(cascade(network, [["1"]], 0)).module[1]
    assert sorted(random.running_mean.tolist()) == list(range(8))
    assert random.running_mean.tolist() != list(range(8))
    assert torch.equal(random.running_var, 1 + random.running_mean)  # a channel's two stay together
    assert module[1].running_mean.tolist() == list(range(8))


def test_deep_networks_go_in_groups():
    parts = [f"part{number}" for number in range(40)]
    steps = steps_down(parts)
    assert [name for step in steps for name in step] == parts
    assert sorted({len(step) for step in steps}) == [2, 3]
    assert len(steps) == 16
    assert said(steps[0]) == "to part2"
    assert said(["a", "layer3.0.downsample.0"]) == "to …r3.0.downsample.0"
    assert steps_down(parts[:3]) == [["part0"], ["part1"], ["part2"]]
    assert said(["part0"]) == "part0"


def test_a_layer_without_weights_is_refused(files):
    module = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU()).eval()
    nn.init.zeros_(module[0].weight)
    network = Network(module, torchvision_preprocessing(24, 24), name="zero", classifies=False)
    with pytest.raises(DeconvnetError, match=r"No weights decide about 1 of zero"):
        check_sanity(network, files)


def test_of_a_single_convolution_nothing_stays(tmp_path):
    """Its projections are its filters, so those of random ones have nothing in common with them but chance."""
    random = np.random.default_rng(0)
    for number in range(12):
        Image.fromarray(random.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(tmp_path / f"{number:02}.png")
    module = nn.Sequential(nn.Conv2d(3, 16, 11), nn.ReLU()).eval()
    network = Network(module, torchvision_preprocessing(24, 24), name="one", classifies=False)
    result = check_sanity(network, tmp_path, rules=["deconvnet", "gradient"], draws=5)
    for found in result.rules.values():
        assert found.steps == [["0"]]
        for measure, values in found.values.items():
            assert values.shape == (12, 5, 1)
            assert abs(values.mean()) < 0.03  # of 60, each with a deviation of 1/√363
            assert found.unrelated[measure].shape == (12, 10)
            assert abs(found.baseline(measure)) < 0.05
    assert result.maps is None
    assert result.deletion is None


def test_all_rule_sets_are_projected_inside_the_field(network, files):
    result = check_sanity(network, files, "conv2", draws=2, stride=12)
    for number, place in enumerate(result.places):
        x = network.preprocess(result.image_set.read(number))[None]
        maps = network.activations(x, "conv2")[0]
        assert maps[:, *place].max() == maps.max()
    box = network.layer("conv2").field.clipped_box(*result.places[0])
    assert result.box == box
    x = network.preprocess(result.image_set.read(0))[None]
    unit = int(network.activations(x, "conv2")[0, :, *result.places[0]].argmax())
    pictures = []
    for name in RULES:
        whole = project(network, x, layer="conv2", unit=unit, position=result.places[0], start="one", rules=name)[0]
        inside = whole[:, box.top : box.bottom, box.left : box.right]
        assert inside.abs().sum() == pytest.approx(float(whole.abs().sum()), rel=1e-6)
        np.testing.assert_allclose(result.rules[name].pictures[0], inside, atol=1e-6)
        pictures.append(inside)
    assert not torch.allclose(pictures[0], pictures[-1], atol=1e-3)


def test_maps_are_those_of_the_plain_loop(network):
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    x[1] = -x[1]
    with torch.no_grad():
        network.module[9].bias.copy_(torch.tensor([-4.0, 0.0, 0.0]))
        targets = network.module(x.clone()).argmax(dim=1).tolist()
    assert 0 not in targets
    steps, occluder = [["9", "7"], ["4"]], Occluder(9, 8)
    found = randomise_maps(network, list(x), steps, occluder, 2, 0, 4)

    def plain(module):
        maps = []
        for photo, target in zip(x, targets, strict=True):
            outputs = plain_occlusion.occlude(module, photo, 9, 8, torch.zeros(3))
            maps.append(np.array([float(output.log_softmax(dim=1)[0, target]) for output in outputs.values()]))
        return maps

    originals, ends = plain(network.module), []
    np.testing.assert_allclose(found.pictures[0].ravel(), originals[0], atol=1e-5)
    for draw in (0, 1):
        for step, random in enumerate(cascade(network, steps, 0, draw)):
            now = plain(random.module)
            expected = [rank_correlation(*pair) for pair in zip(originals, now, strict=True)]
            np.testing.assert_allclose(found.values["maps"][:, draw, step], expected, atol=0.05)
        ends.append(now)
    np.testing.assert_allclose(
        found.unrelated["maps"][:, 0], [rank_correlation(*pair) for pair in zip(*ends, strict=True)], atol=0.05
    )
    assert not np.allclose(found.values["maps"][:, 0], found.values["maps"][:, 1], atol=0.05)


def test_projections_start_from_the_place_that_was_strongest(network, files):
    result = check_sanity(network, files, "conv2", rules=["deconvnet"], draws=2, stride=12)
    x = network.preprocess(result.image_set.read(0))[None]
    maps = network.activations(x, "conv2")[0]
    unit = int(maps.flatten(1).amax(dim=1).argmax())
    course = result.rules["deconvnet"]
    first = torch.from_numpy(course.pictures[0])
    whole = project(network, x, layer="conv2", unit=unit, start="one")[0]
    assert first.abs().max() == pytest.approx(float(whole.abs().max()), rel=1e-5)
    assert len(course.pictures) == 3
    assert len({picture.shape for picture in course.pictures}) == 1
    assert course.values["signed"][0, 0, 0] == pytest.approx(likeness(*map(torch.from_numpy, course.pictures[:2]))["signed"])
    assert result.maps.steps == [["9"], ["7"], ["4"], ["0"]]
    assert result.maps.values["maps"].shape == (2, 2, 4)
    assert result.maps.unrelated["maps"].shape == (2, 1)
    first_map, last_map = result.maps.pictures[0], result.maps.pictures[-1]
    assert result.maps.values["maps"][0, 0, -1] == pytest.approx(rank_correlation(first_map, last_map))


def test_a_map_of_the_same_network_would_be_the_same(network, files, monkeypatch):
    """With a cascade that changes nothing, all is alike: so the test measures what randomising does, and nothing else."""
    monkeypatch.setattr(
        "deconvnet.experiments.sanity_checks.occlusion_maps.cascade",
        lambda network, steps, seed, draw: [network] * len(steps),
    )
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    found = randomise_maps(network, list(x), [["9"], ["7"]], Occluder(8, 8), 2, 0, 4)
    assert found.values["maps"] == pytest.approx(np.ones((2, 2, 2)))
    assert found.unrelated["maps"] == pytest.approx(np.ones((2, 1)))


def test_what_is_not_known_is_left_out_of_means():
    values = np.array([[[0.5, np.nan]], [[0.1, np.nan]], [[np.nan, np.nan]]])
    course = RandomisationCurve([["a"], ["b"]], [], {"signed": values}, {"signed": np.array([[np.nan], [0.2], [np.nan]])})
    np.testing.assert_allclose(course.mean("signed"), [0.3, np.nan])
    np.testing.assert_allclose(course.by_draw("signed"), [[0.3, np.nan]])
    assert course.baseline("signed") == pytest.approx(0.2)
    written = json.loads(json.dumps(course.as_json(), allow_nan=False))
    assert written["signed"]["mean"] == [pytest.approx(0.3), None]
    assert written["signed"]["each"][2] == [[None, None]]


def test_the_last_squares_reach_the_border():
    """A view of 29 is no multiple of 14: with all of it covered, its border is covered too."""
    module = nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(29 * 29, 2))
    with torch.no_grad():
        module[0].weight.fill_(1)
        module[0].bias.zero_()
        module[3].weight.zero_()
        module[3].bias.zero_()
        module[3].weight.view(2, 29, 29)[0, 28, :] = 0.05
    network = Network(module.eval(), torchvision_preprocessing(29, 29), name="border", classes=CLASSES[:2])
    found = delete(network, [torch.ones(3, 29, 29)], 1, 0, 4)
    assert found.by_map[0, 0] > 0.9
    assert found.by_map[0, -1] == pytest.approx(0.5)


def test_deletion_by_the_map_is_faster_where_one_region_decides():
    module = nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(28 * 28, 2))
    with torch.no_grad():
        module[0].weight.fill_(1)
        module[0].bias.zero_()
        module[3].weight.zero_()
        module[3].bias.zero_()
        module[3].weight.view(2, 28, 28)[0, 4:10, 16:22] = 0.05
    network = Network(module.eval(), torchvision_preprocessing(28, 28), name="region", classes=CLASSES[:2])
    found = delete(network, [torch.ones(3, 28, 28)], 3, 0, 4)
    assert found.shares[::20] == [0.0, 1.0]
    for curves in found.orders.values():
        assert curves[0, 0] == pytest.approx(1 / (1 + np.exp(-36 * 3 * 0.05)))
        assert curves[0, -1] == pytest.approx(0.5)
    assert found.by_map[0, 1] == pytest.approx(0.5)  # the region's 9 squares are among the first 10 of 196
    assert found.at_random[0, 4] > 0.9
    assert found.from_the_centre[0, 3] > 0.9  # as the region is not there
    assert found.areas["by_map"] < 0.55 < 0.7 < found.areas["from_the_centre"]
    assert found.areas["at_random"] > 0.8


def test_it_is_written_and_drawn(network, files, tmp_path):
    result = write_sanity(tmp_path / "out", network, files, draws=2, stride=12)
    written = json.loads((tmp_path / "out" / "sanity.json").read_text())
    assert written == json.loads(json.dumps(result.as_json(), allow_nan=False))
    assert list(written["projections"]) == list(RULES)
    with Image.open(tmp_path / "out" / "sanity.png") as picture:
        assert picture.width > 1000
    again = check_sanity(network, [str(file) for file in files], draws=2, stride=12, rules=[*RULES, "deconvnet"])
    assert again.as_json() == result.as_json()
    assert [place in range(network.layers["conv2"].map_size[0]) for place in written["places"][0]] == [True, True]
    assert written["occluder"] == {"size": 8, "stride": 12}
    assert written["classes"] == [CLASSES[int(network.probabilities(x[None]).argmax())][1] for x in _inputs(network, result)]
    areas = result.deletion.areas
    assert f"of {areas['by_map']:.1%}, from the centre on {areas['from_the_centre']:.1%}, in" in result.findings[-1]
    assert f"in random order {areas['at_random']:.1%}." in result.findings[-1]
    assert result.findings[0].startswith("deconvnet, with all weights up to conv2 random: likeness to the original signed ")


def _inputs(network, result):
    return [network.preprocess(result.image_set.read(index)) for index in range(len(result.image_set))]


def test_projections_of_nothing_are_counted_and_left_out(files, tmp_path):
    """With two units, a random one is often active nowhere near."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 2, 11), nn.ReLU()).eval()
    network = Network(module, torchvision_preprocessing(24, 24), name="few", classifies=False)
    result = write_sanity(tmp_path / "out", network, files, rules=["deconvnet"], draws=6)
    unknown = result.rules["deconvnet"].unknown("signed")
    assert 0 < unknown < 12
    assert f"left out: {unknown} of 12 projections that were all zero." in result.findings[0]


def test_what_cannot_be_checked_is_refused(network, files, photo_folder):
    for options, sentence in (
        ({"draws": 1}, "1 draws are too few"),
        ({"stride": 0}, "not 0 and 32"),
        ({"rules": ["backwards"]}, "backwards"),
        ({"layer": "conv9"}, "conv9"),
        ({"rules": []}, "no rules to project by"),
        ({"stride": 40}, "one position in a view of 32: pass a smaller stride"),
    ):
        with pytest.raises(UsageError, match=sentence):
            check_sanity(network, files, **options)
    with pytest.raises(DeconvnetError, match=r"broken\.jpg"):
        check_sanity(network, [photo_folder / "bee" / "broken.jpg"])


def test_on_the_command_line(files, tmp_path, capsys, monkeypatch):
    from deconvnet.models import ZFNet, ZFNetOptions, save_weights

    module = ZFNet(ZFNetOptions(classes=3, middle=(6, 5, 4), hidden=8)).eval()
    weights, out = tmp_path / "weights.safetensors", tmp_path / "out"
    network = Network(module, torchvision_preprocessing(256, 224), name="zfnet", weights="none", classes=CLASSES)
    save_weights(network, weights)
    words = [
        "sanity",
        f"zfnet:{weights}",
        str(files[0]),
        "--rules",
        "deconvnet, gradient",
        "--draws",
        "2",
        "--out",
        str(out),
    ]
    monkeypatch.setattr("sys.argv", ["deconvnet", *words, "--stride", "90", "--device", "cpu"])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code in (0, None)
    said = capsys.readouterr().out
    assert "Occlusion maps of 4 places, with all weights random" in said
    assert f"Wrote {out / 'sanity.png'}" in said
