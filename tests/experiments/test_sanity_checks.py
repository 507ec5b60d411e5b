"""The randomisation test and the deletion test, where the answer is known."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deconvnet import DeconvnetError, UsageError, project
from deconvnet.data import torchvision_preprocessing
from deconvnet.experiments.fig7_occlusion import Occluder
from deconvnet.experiments.sanity_checks import check_sanity, write_sanity
from deconvnet.experiments.sanity_checks.curves import RandomisationCurve
from deconvnet.experiments.sanity_checks.occlusion_maps import deletion_test, randomise_occlusion_maps
from deconvnet.experiments.sanity_checks.plot import group_label
from deconvnet.experiments.sanity_checks.randomisation import (
    cascading_randomisation,
    group_modules,
    influential_modules,
)
from deconvnet.experiments.sanity_checks.similarity import projection_similarities, rank_correlation
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
    ranks, other_ranks = np.array([4, 1, 2.5, 2.5]), np.array([4, 1, 2, 3])
    assert rank_correlation(values, others) == pytest.approx(np.corrcoef(ranks, other_ranks)[0, 1])
    assert np.isnan(rank_correlation(values, np.ones(4)))


def test_only_the_signed_similarity_depends_on_signs():
    projection = torch.randn(3, 20, 20)
    assert projection_similarities(projection, 3 * projection) == pytest.approx(
        {"signed": 1, "absolute": 1, "ssim": 1}, abs=1e-6
    )
    opposite = projection_similarities(projection, -projection)
    assert (opposite["signed"], opposite["absolute"]) == pytest.approx((-1, 1))
    assert opposite["ssim"] < 0.8
    unrelated = projection_similarities(projection, torch.randn(3, 20, 20))
    assert all(abs(value) < 0.15 for value in unrelated.values())
    assert all(np.isnan(value) for value in projection_similarities(projection, torch.zeros(3, 20, 20)).values())
    assert all(np.isnan(value) for value in projection_similarities(projection[:, :0], projection[:, :0]).values())
    assert np.isnan(projection_similarities(projection[:, :5, :5], projection[:, :5, :5])["ssim"])


def test_a_cascade_goes_from_the_top_down_and_leaves_the_network_alone(network):
    assert influential_modules(network) == ["9", "7", "4", "0"]
    assert influential_modules(network, "conv2") == ["4", "0"]
    assert influential_modules(network, "conv1") == ["0"]
    before = {name: value.clone() for name, value in network.module.state_dict().items()}
    changed = []
    for randomised in cascading_randomisation(network, group_modules(influential_modules(network)), seed=3):
        now = randomised.module.state_dict()
        changed.append({name.partition(".")[0] for name, value in now.items() if not torch.equal(value, before[name])})
    assert changed == [{"9"}, {"9", "7"}, {"9", "7", "4"}, {"9", "7", "4", "0"}]
    assert all(torch.equal(value, before[name]) for name, value in network.module.state_dict().items())
    weight = next(cascading_randomisation(network, [["7"]], seed=3)).module[7].weight
    assert float(weight.detach().std()) == pytest.approx(float(before["7.weight"].std()), rel=0.05)
    assert torch.equal(weight, next(cascading_randomisation(network, [["7"]], seed=3)).module[7].weight)
    for numbers in ({"seed": 4}, {"seed": 3, "draw": 1}, {"seed": 2, "draw": 1}):
        assert not torch.equal(weight, next(cascading_randomisation(network, [["7"]], **numbers)).module[7].weight)


def test_random_weights_have_the_mean_and_the_deviation_of_those_in_their_place():
    module = nn.Sequential(nn.Conv2d(3, 64, 7), nn.ReLU())
    with torch.no_grad():
        module[0].weight.normal_(3.0, 0.5)
    network = Network(module, torchvision_preprocessing(24, 24), name="shifted", classifies=False)
    weight = next(cascading_randomisation(network, [["0"]], seed=0)).module[0].weight.detach()
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
    assert influential_modules(network) == ["head", "body"]


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
    assert influential_modules(network, "2") == ["1", "0"]
    randomised = next(cascading_randomisation(network, [["1"]], 0)).module[1]
    assert sorted(randomised.running_mean.tolist()) == list(range(8))
    assert randomised.running_mean.tolist() != list(range(8))
    assert torch.equal(randomised.running_var, 1 + randomised.running_mean)  # a channel's two stay together
    assert module[1].running_mean.tolist() == list(range(8))


def test_deep_networks_go_in_groups():
    paths = [f"part{number}" for number in range(40)]
    groups = group_modules(paths)
    assert [path for group in groups for path in group] == paths
    assert sorted({len(group) for group in groups}) == [2, 3]
    assert len(groups) == 16
    assert group_label(groups[0]) == "to part2"
    assert group_label(["a", "layer3.0.downsample.0"]) == "to …r3.0.downsample.0"
    assert group_modules(paths[:3]) == [["part0"], ["part1"], ["part2"]]
    assert group_label(["part0"]) == "part0"


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
    for curve in result.projection_curves.values():
        assert curve.groups == [["0"]]
        for measure, values in curve.similarity.items():
            assert values.shape == (12, 5, 1)
            assert abs(values.mean()) < 0.03  # of 60, each with a deviation of 1/√363
            assert curve.unrelated[measure].shape == (12, 10)
            assert abs(curve.unrelated_mean(measure)) < 0.05
    assert result.occlusion_curve is None
    assert result.deletion_curve is None


def test_all_rule_sets_are_projected_inside_the_field(network, files):
    result = check_sanity(network, files, "conv2", draws=2, stride=12)
    for index, position in enumerate(result.positions):
        x = network.preprocess(result.image_set.read(index))[None]
        maps = network.activations(x, "conv2")[0]
        assert maps[:, *position].max() == maps.max()
    box = network.layer("conv2").field.clipped_box(*result.positions[0])
    assert result.first_box == box
    x = network.preprocess(result.image_set.read(0))[None]
    unit = int(network.activations(x, "conv2")[0, :, *result.positions[0]].argmax())
    pictures = []
    for name in RULES:
        whole = project(network, x, layer="conv2", unit=unit, position=result.positions[0], start="one", rules=name)[0]
        inside = whole[:, box.top : box.bottom, box.left : box.right]
        assert inside.abs().sum() == pytest.approx(float(whole.abs().sum()), rel=1e-6)
        np.testing.assert_allclose(result.projection_curves[name].pictures[0], inside, atol=1e-6)
        pictures.append(inside)
    assert not torch.allclose(pictures[0], pictures[-1], atol=1e-3)


def test_occlusion_maps_are_those_of_the_plain_loop(network):
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    x[1] = -x[1]
    with torch.no_grad():
        network.module[9].bias.copy_(torch.tensor([-4.0, 0.0, 0.0]))
        targets = network.module(x.clone()).argmax(dim=1).tolist()
    assert 0 not in targets
    groups, occluder = [["9", "7"], ["4"]], Occluder(9, 8)
    curve = randomise_occlusion_maps(network, list(x), groups, occluder, 2, 0, 4)

    def plain(module):
        maps = []
        for photo, target in zip(x, targets, strict=True):
            outputs = plain_occlusion.occlude(module, photo, 9, 8, torch.zeros(3))
            maps.append(np.array([float(output.log_softmax(dim=1)[0, target]) for output in outputs.values()]))
        return maps

    originals, ends = plain(network.module), []
    np.testing.assert_allclose(curve.pictures[0].ravel(), originals[0], atol=1e-5)
    for draw in (0, 1):
        for step, randomised in enumerate(cascading_randomisation(network, groups, 0, draw)):
            now = plain(randomised.module)
            expected = [rank_correlation(*pair) for pair in zip(originals, now, strict=True)]
            np.testing.assert_allclose(curve.similarity["maps"][:, draw, step], expected, atol=0.05)
        ends.append(now)
    np.testing.assert_allclose(
        curve.unrelated["maps"][:, 0], [rank_correlation(*pair) for pair in zip(*ends, strict=True)], atol=0.05
    )
    assert not np.allclose(curve.similarity["maps"][:, 0], curve.similarity["maps"][:, 1], atol=0.05)


def test_projections_start_from_the_strongest_position(network, files):
    result = check_sanity(network, files, "conv2", rules=["deconvnet"], draws=2, stride=12)
    x = network.preprocess(result.image_set.read(0))[None]
    maps = network.activations(x, "conv2")[0]
    unit = int(maps.flatten(1).amax(dim=1).argmax())
    curve = result.projection_curves["deconvnet"]
    first = torch.from_numpy(curve.pictures[0])
    whole = project(network, x, layer="conv2", unit=unit, start="one")[0]
    assert first.abs().max() == pytest.approx(float(whole.abs().max()), rel=1e-5)
    assert len(curve.pictures) == 3
    assert len({picture.shape for picture in curve.pictures}) == 1
    assert curve.similarity["signed"][0, 0, 0] == pytest.approx(
        projection_similarities(*map(torch.from_numpy, curve.pictures[:2]))["signed"]
    )
    assert result.occlusion_curve.groups == [["9"], ["7"], ["4"], ["0"]]
    assert result.occlusion_curve.similarity["maps"].shape == (2, 2, 4)
    assert result.occlusion_curve.unrelated["maps"].shape == (2, 1)
    first_map, last_map = result.occlusion_curve.pictures[0], result.occlusion_curve.pictures[-1]
    assert result.occlusion_curve.similarity["maps"][0, 0, -1] == pytest.approx(rank_correlation(first_map, last_map))


def test_a_map_of_the_same_network_would_be_the_same(network, files, monkeypatch):
    """With a cascade that changes nothing, all is alike: so the test measures what randomising does, and nothing else."""
    monkeypatch.setattr(
        "deconvnet.experiments.sanity_checks.randomisation.cascading_randomisation",
        lambda network, groups, seed, draw: [network] * len(groups),
    )
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    curve = randomise_occlusion_maps(network, list(x), [["9"], ["7"]], Occluder(8, 8), 2, 0, 4)
    assert curve.similarity["maps"] == pytest.approx(np.ones((2, 2, 2)))
    assert curve.unrelated["maps"] == pytest.approx(np.ones((2, 1)))


def test_what_is_not_known_is_left_out_of_means():
    values = np.array([[[0.5, np.nan]], [[0.1, np.nan]], [[np.nan, np.nan]]])
    curve = RandomisationCurve([["a"], ["b"]], [], {"signed": values}, {"signed": np.array([[np.nan], [0.2], [np.nan]])})
    np.testing.assert_allclose(curve.mean("signed"), [0.3, np.nan])
    np.testing.assert_allclose(curve.mean_by_draw("signed"), [[0.3, np.nan]])
    assert curve.unrelated_mean("signed") == pytest.approx(0.2)
    written = json.loads(json.dumps(curve.as_json(), allow_nan=False))
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
    curve = deletion_test(network, [torch.ones(3, 29, 29)], 1, 0, 4)
    assert curve.by_map[0, 0] > 0.9
    assert curve.by_map[0, -1] == pytest.approx(0.5)


def test_deletion_by_the_map_is_faster_where_one_region_decides():
    module = nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(28 * 28, 2))
    with torch.no_grad():
        module[0].weight.fill_(1)
        module[0].bias.zero_()
        module[3].weight.zero_()
        module[3].bias.zero_()
        module[3].weight.view(2, 28, 28)[0, 4:10, 16:22] = 0.05
    network = Network(module.eval(), torchvision_preprocessing(28, 28), name="region", classes=CLASSES[:2])
    curve = deletion_test(network, [torch.ones(3, 28, 28)], 3, 0, 4)
    assert curve.fractions[::20] == [0.0, 1.0]
    for probabilities in curve.orders.values():
        assert probabilities[0, 0] == pytest.approx(1 / (1 + np.exp(-36 * 3 * 0.05)))
        assert probabilities[0, -1] == pytest.approx(0.5)
    assert curve.by_map[0, 1] == pytest.approx(0.5)  # the region's 9 squares are among the first 10 of 196
    assert curve.at_random[0, 4] > 0.9
    assert curve.from_the_centre[0, 3] > 0.9  # as the region is not there
    assert curve.areas["by_map"] < 0.55 < 0.7 < curve.areas["from_the_centre"]
    assert curve.areas["at_random"] > 0.8


def test_it_is_written_and_drawn(network, files, tmp_path):
    result = write_sanity(tmp_path / "out", network, files, draws=2, stride=12)
    written = json.loads((tmp_path / "out" / "sanity.json").read_text())
    assert written == json.loads(json.dumps(result.as_json(), allow_nan=False))
    assert list(written["projections"]) == list(RULES)
    with Image.open(tmp_path / "out" / "sanity.png") as picture:
        assert picture.width > 1000
    repeated = check_sanity(network, [str(file) for file in files], draws=2, stride=12, rules=[*RULES, "deconvnet"])
    assert repeated.as_json() == result.as_json()
    assert [index in range(network.layers["conv2"].map_size[0]) for index in written["places"][0]] == [True, True]
    assert written["occluder"] == {"size": 8, "stride": 12}
    assert written["classes"] == [CLASSES[int(network.probabilities(x[None]).argmax())][1] for x in _inputs(network, result)]
    areas = result.deletion_curve.areas
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
    undefined = result.projection_curves["deconvnet"].num_undefined("signed")
    assert 0 < undefined < 12
    assert f"left out: {undefined} of 12 projections that were all zero." in result.findings[0]


def test_what_cannot_be_checked_is_refused(network, files, photo_folder):
    for options, sentence in (
        ({"draws": 1}, "1 draws are too few"),
        ({"stride": 0}, "not 0 and 32"),
        ({"rules": ["backwards"]}, "backwards"),
        ({"layer": "conv9"}, "conv9"),
        ({"rules": []}, "no rules to project by"),
        ({"stride": 40}, "one position in a view of 32×32: pass a smaller stride"),
    ):
        with pytest.raises(UsageError, match=sentence):
            check_sanity(network, files, **options)
    with pytest.raises(DeconvnetError, match=r"broken\.jpg"):
        check_sanity(network, [photo_folder / "bee" / "broken.jpg"])


@pytest.mark.usefixtures("bars_that_end")
def test_on_the_command_line(network_file, files, tmp_path, deconvnet_command):
    out = tmp_path / "out"
    words = ["--rules", "deconvnet, gradient", "--draws", 2, "--out", out, "--stride", 40, "--device", "cpu"]
    code, printed, _ = deconvnet_command("sanity", f"{network_file}:one", files[0], *words)
    assert code == 0
    assert "Occlusion maps of 4 places, with all weights random" in printed
    assert f"Wrote {out / 'sanity.png'}" in printed
