"""Training on an accelerator: the losses of the CPU, exact resuming, and one wait for several steps."""

import csv
from dataclasses import replace

import pytest

from deconvnet.models import ARCHITECTURES
from deconvnet.training import train, trainer
from helpers.emulated_accelerator import emulated
from helpers.small_training import RECIPE, SMALL, write_photos


@pytest.fixture(autouse=True)
def _small_zfnet(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "zfnet", SMALL)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder)
    return folder


def losses(run):
    with (run / "steps.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_the_first_ten_losses_are_the_cpus(photos, tmp_path, noise):
    recipe = replace(RECIPE, epochs=1 + 10 // (len(list(photos.glob("train/*/*"))) // RECIPE.batch_size))
    on_cpu = losses(train("zfnet", photos, tmp_path / "cpu", recipe, device="cpu").parent)
    with emulated(noise):
        on_emu = losses(train("zfnet", photos, tmp_path / "emu", recipe, device="emu").parent)
    assert len(on_emu) == len(on_cpu) >= 10
    assert on_emu[:10] == pytest.approx(on_cpu[:10], rel=max(1e-5, 100 * noise))


def test_it_waits_once_for_several_steps(photos, tmp_path, monkeypatch):
    recipe = replace(RECIPE, epochs=1, batch_size=3)
    steps = len(list(photos.glob("train/*/*"))) // 3
    assert steps > 4

    def waits(per_reading):
        monkeypatch.setattr(trainer, "_STEPS_PER_READING", per_reading)
        with emulated() as counted:
            train("zfnet", photos, tmp_path / str(per_reading), recipe, device="emu")
            return counted.total()

    assert waits(1) - waits(steps) == steps - 1
    assert (tmp_path / "1" / "steps.csv").read_bytes() == (tmp_path / str(steps) / "steps.csv").read_bytes()
