"""Recipes: what the paper says, and what a file may not."""

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import nn

from deconvnet.errors import UsageError
from deconvnet.models import ZFNet, ZFNetOptions
from deconvnet.training import RECIPES, Recipe, read_recipe, train
from deconvnet.training.filter_renormalisation import renormalise_filters
from deconvnet.training.schedule import Plateau, learning_rate
from deconvnet.training.stateless_rng import crop_numbers, dropout_seed, epoch_order, init_seed
from helpers.small_training import RECIPE


def test_the_paper_s_numbers():
    """PAPER: batch 128, momentum 0.9, 1e-2 divided by 10 on a plateau, N(0, 0.01²), dropout 0.5, RMS 0.1, 70 epochs."""
    assert read_recipe("paper") == Recipe(
        epochs=70,
        batch_size=128,
        learning_rate=1e-2,
        schedule="plateau",
        patience=5,
        momentum=0.9,
        weight_decay=5e-4,
        dropout=0.5,
        label_smoothing=0.0,
        init="normal",
        input_std=1.0,
        max_filter_rms=0.1,
        precision="float32",
        channels_last=False,
        compile=False,
    )
    fast = read_recipe("fast")
    assert (fast.precision, fast.channels_last, fast.schedule) == ("bfloat16", True, "one-cycle")
    assert all(Recipe.from_entries(read_recipe(name).entries()) == read_recipe(name) for name in RECIPES)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("epochs = 1\nbatch_size = 2\nlearning_rate = 1\nlr = 3", "has no entry 'lr': there are epochs, batch_size"),
        ("epochs = 1\nbatch_size = 2", "lacks the entry 'learning_rate'"),
        ("epochs = 1.5\nbatch_size = 2\nlearning_rate = 1", "epochs = 1.5: it is a whole number from 1"),
        ("epochs = true\nbatch_size = 2\nlearning_rate = 1", "epochs = True: it is a whole number"),
        ("epochs = 1\nbatch_size = 0\nlearning_rate = 1", "batch_size = 0: it is a whole number from 1"),
        ("epochs = 1\nbatch_size = 2\nlearning_rate = nan", "learning_rate = nan: it is a number from 1e-12"),
        ("epochs = 1\nbatch_size = 2\nlearning_rate = 1\nweight_decay = inf", "weight_decay = inf"),
        ("epochs = 1\nbatch_size = 2\nlearning_rate = 1\ndropout = 1.0", "dropout = 1.0: it is a number from 0 to 0.99"),
        ('epochs = 1\nbatch_size = 2\nlearning_rate = 1\nschedule = "x"', '"plateau" or "one-cycle"'),
        ("epochs = 1\nbatch_size = 2\nlearning_rate = 1\ncompile = 1", "compile = 1: it is true or false"),
        ('epochs = 1\nbatch_size = 2\nlearning_rate = 1\ninit = "he"', "has no entry 'init': there are epochs"),
        (f"epochs = 0x{'f' * 4000}\nbatch_size = 2\nlearning_rate = 1", "epochs = a number of thousands of digits: it is"),
        (f"epochs = {'9' * 5000}", "is not a TOML file"),
        (f"epochs = {'[' * 5000}", "is not a TOML file"),
        ("epochs = 1\nbatch_size = 2\nlearning_rate = 1\nnetwork = 3", "network = 3: it is a table"),
        ("epochs 1", "is not a TOML file"),
        (b"\xff", "is not a TOML file"),
        (None, r"There is no recipe .*: pass paper or fast, or a TOML file"),
    ],
)
def test_a_recipe_that_cannot_be_meant(tmp_path, text, sentence):
    file = tmp_path / "my.toml"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=sentence) as caught:
        read_recipe(file)
    assert str(file) in str(caught.value)


def test_what_python_passes_is_named_as_in_a_file():
    for arguments, options, sentence in (
        ((True, 2, 1.0), {}, r"epochs = True: it is a whole number from 1 to 1e\+06\.$"),
        ((1, 2), {}, "lacks the entry 'learning_rate'"),
        ((1, 2, 1.0), {"epochs": 3}, "has the entry 'epochs' twice"),
        ((1, 2, 1.0), {"input_std": -1.0}, "deviation = -1.0: it is a number"),
        ((1, 2, 1.0), {"initial": "he"}, "no entry 'initial'"),
        ([*asdict(RECIPE).values(), 1], {}, "18 entries, not more"),
    ):
        with pytest.raises(UsageError, match=f"^A recipe .*{sentence}") as caught:
            Recipe(*arguments, **options)
        assert "pydantic" not in str(caught.value)


@pytest.mark.parametrize(
    ("network", "options", "sentence"),
    [
        ("torchvision:resnet18", {}, "cannot be trained from scratch: pass one of alexnet2012, zfnet"),
        ("alexnet", {}, "cannot be trained"),
        ("zfnet:imagenette", {}, "cannot be trained"),
        ("net.py:make", {}, "cannot be trained"),
        ("zfnet", {"hiden": 8}, "The recipe has a .network. table that cannot be used. .*unknown option 'hiden'"),
        ("zfnet", {"hidden": 8.5}, "hidden = 8.5"),
        ("zfnet", {"hidden": 10**7}, "hidden = 10000000"),
        ("zfnet", {"classes": 8}, "leave it out"),
        ("zfnet", {"pool5": 2}, "The recipe has a .network. table that cannot be used. zfnet cannot be run on"),
    ],
)
def test_networks_and_options_that_do_not_fit(photos, tmp_path, network, options, sentence):
    with pytest.raises(UsageError, match=sentence):
        train(network, photos, tmp_path / "run", replace(RECIPE, network=options))
    assert not (tmp_path / "run").exists()


def test_a_plateau_drops_three_times_at_most():
    plateau, drops = Plateau(), []
    for error in [0.9, 0.8] + [0.8] * 9 + [0.7] + [0.75] * 9:
        plateau = plateau.after_epoch(error, 2)
        drops.append(plateau.drops)
    assert drops == [0, 0, 0, 1, 1, 2, 2, 3, *[3] * 13]
    assert plateau.best == 0.7
    assert learning_rate(read_recipe("paper"), plateau, 0, 1) == pytest.approx(1e-5)


@pytest.mark.parametrize("warm_up", [0, 0.15, 0.155, 1])
def test_one_cycle_rises_to_the_top_once_and_ends_near_zero(warm_up):
    recipe = replace(read_recipe("fast"), warm_up=warm_up)
    rates = np.array([learning_rate(recipe, Plateau(), step, 100) for step in range(100)])
    top = int(rates.argmax())
    assert top == min(math.ceil(warm_up * 100), 99) or rates[top] == rates[math.ceil(warm_up * 100) - 1]
    assert rates.min() > 0
    assert recipe.learning_rate * 0.99 < rates.max() <= recipe.learning_rate
    assert (np.diff(rates[: top + 1]) > 0).all()
    assert (np.diff(rates[top + 1 :]) < 0).all()
    if warm_up < 1:
        assert rates[-1] < 1e-3 * recipe.learning_rate


def test_filters_of_convolutions_are_scaled_back_and_nothing_else():
    module = ZFNet(ZFNetOptions(classes=4, middle=(12, 10, 8), hidden=5))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(torch.rand(len(parameter), *[1] * (parameter.dim() - 1)) * 20).add_(0.001)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    renormalise_filters(module, 0.1)
    scaled = 0
    for name, value in module.state_dict().items():
        if name.startswith("conv") and name.endswith("weight"):
            for filter, old in zip(value.double(), before[name].double(), strict=True):
                rms = math.sqrt(sum(float(weight) ** 2 for weight in old.flatten()[:]) / old.numel())
                scaled += rms > 0.1
                torch.testing.assert_close(filter, old * min(1, 0.1 / rms), rtol=1e-5, atol=0)
        else:
            assert torch.equal(value, before[name])
    assert 100 < scaled < 380
    assert not any(isinstance(part, nn.Conv2d) for name, part in module.named_modules() if name.startswith("fc"))


def test_what_is_drawn_at_random_follows_from_numbers_alone():
    orders = [epoch_order(seed, epoch, 1000) for seed in (0, 1) for epoch in (1, 2)]
    assert all((np.sort(order) == np.arange(1000)).all() for order in orders)
    assert all((a != b).any() for i, a in enumerate(orders) for b in orders[:i])
    chosen = np.array([5, 900, 3])
    assert (crop_numbers(7, 2, chosen) == crop_numbers(7, 2, np.arange(1000))[chosen]).all()
    drawn = [crop_numbers(seed, epoch, np.arange(2000)) for seed in (0, 1) for epoch in range(5)]
    seeds = [dropout_seed(seed, step, rank) for seed in (0, 1) for step in range(500) for rank in range(4)]
    seeds += [init_seed(seed) for seed in range(1000)]
    everything = [*np.concatenate(drawn).tolist(), *seeds]
    assert len(set(everything)) == len(everything)
    assert max(seeds) < 2**63
    bits = np.unpackbits(np.concatenate(drawn).view(np.uint8))
    assert abs(bits.mean() - 0.5) < 0.005
