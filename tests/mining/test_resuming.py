"""Interrupted mining resumes, and merged parts equal one pass."""

import errno
import os
import sys
from contextlib import contextmanager

import pytest
import torch
from filelock import FileLock

from deconvnet.data import find_images
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.mining import MiningKey, MiningState, merge_parts, mine, mine_batches, mine_part, mine_remaining
from deconvnet.mining.statistics import Statistics

mine_module = sys.modules["deconvnet.mining.mine"]  # `mining.mine` is the function


@pytest.fixture
def state_of(small_network, photo_folder, tmp_path):
    """Function that mines everything into a state file and returns its bytes."""

    def mine_state(name="whole.safetensors", **options):
        mine(small_network, photo_folder, state=tmp_path / name, **{"batch_size": 4, "workers": 1} | options)
        return (tmp_path / name).read_bytes()

    return mine_state


@contextmanager
def stopped_after(network, calls, error=None):
    """The network passes `calls` batches, then raises `error`; yields the list of batch sizes."""
    batch_sizes, capture = [], network.capture

    def counted(x, *rest):
        if len(x) == 1:  # the probe image of a key
            return capture(x, *rest)
        if len(batch_sizes) == calls:
            raise error
        batch_sizes.append(len(x))
        return capture(x, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "capture", counted)
        yield batch_sizes


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), DeconvnetError("x"), RuntimeError("x")])
def test_mining_goes_on_after_whatever_stopped_it(small_network, photo_folder, tmp_path, monkeypatch, state_of, error):
    expected, file = state_of(), tmp_path / "state.safetensors"
    with stopped_after(small_network, 2, error), pytest.raises(type(error)):
        state_of(file.name)
    assert MiningState.load(file).done.tolist() == [True] * 8 + [False] * 11
    with stopped_after(small_network, 99) as batch_sizes:
        assert state_of(file.name) == expected
        assert len(batch_sizes) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "whole.safetensors", file.name}


def test_another_batch_size_goes_on_too(small_network, photo_folder, tmp_path, monkeypatch, state_of):
    state_of()
    with stopped_after(small_network, 2, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        state_of("other.safetensors", batch_size=3)
    state_of("other.safetensors", batch_size=5)
    whole, other = (MiningState.load(tmp_path / name) for name in ("whole.safetensors", "other.safetensors"))
    for name, topk in whole.topk.items():
        assert torch.equal(topk.images, other.topk[name].images)
        torch.testing.assert_close(topk.values, other.topk[name].values, rtol=1e-5, atol=1e-6)


def test_the_state_is_saved_now_and_then(photo_folder, tmp_path, monkeypatch, state_of):
    saved = []
    monkeypatch.setattr(MiningState, "save", lambda self, file: saved.append(int(self.done.sum())))
    with pytest.raises(FileNotFoundError):
        state_of()
    assert saved == [19]
    monkeypatch.setattr(mine_batches, "SAVE_EVERY", -1)
    with pytest.raises(FileNotFoundError):
        state_of()
    assert saved == [19, 4, 8, 12, 16, 19, 19]


def test_a_state_torn_by_an_interruption_is_not_saved(tmp_path, monkeypatch, state_of):
    calls, add = [], Statistics.add

    def torn(self, *arguments):
        calls.append(1)
        if len(calls) == 6:  # conv1 has the batch, conv2 has not
            raise KeyboardInterrupt
        add(self, *arguments)

    monkeypatch.setattr(mine_batches, "SAVE_EVERY", -1)
    monkeypatch.setattr(Statistics, "add", torn)
    with pytest.raises(KeyboardInterrupt):
        state_of("state.safetensors")
    assert MiningState.load(tmp_path / "state.safetensors").done.sum() == 8
    assert state_of("state.safetensors") == state_of()


def test_a_full_disk_leaves_what_was_saved(small_network, tmp_path, monkeypatch, state_of):
    file = tmp_path / "state.safetensors"
    with stopped_after(small_network, 2, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        state_of(file.name)
    before = file.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DeconvnetError, match=r"state.*written: No space left on device\.$"):
            state_of(file.name)
    assert file.read_bytes() == before
    assert state_of(file.name) == state_of()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("place", ["file/state.safetensors", "/proc/nowhere/state.safetensors"])
def test_a_place_that_cannot_be_written_is_one_sentence(small_network, photo_folder, tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(DeconvnetError, match="cannot be written"):
        mine(small_network, photo_folder, state=tmp_path / place)


def test_a_network_of_the_same_weights_that_computes_otherwise_is_another(small_network, photo_folder, tmp_path, state_of):
    expected, module = state_of(), small_network.module
    forward, factor = module.forward, 1 + 1e-6  # as much as another device may round otherwise
    module.forward = lambda x: forward(x * factor)
    assert state_of() == expected
    factor = 1.1
    with pytest.raises(DeconvnetError, match=r"whole\.safetensors was mined with another network: "):
        state_of()


def test_two_at_a_time_are_refused(small_network, photo_folder, tmp_path):
    with FileLock(tmp_path / ".s.safetensors.lock"), pytest.raises(DeconvnetError, match="Another process is mining into"):
        mine(small_network, photo_folder, state=tmp_path / "s.safetensors")


@pytest.mark.parametrize("begin", [0, 4], ids=["merged already", "partly"])
def test_what_earlier_processes_left_is_gone_on_from(small_network, photo_folder, tmp_path, state_of, begin):
    """The files of two processes, one of which holds photos that are in the first's; and a save that was killed."""
    expected, image_set = state_of(), find_images(photo_folder)
    key = MiningKey.compute(small_network, image_set, small_network.convolutional_layers, 9)
    file = tmp_path / "s[1].safetensors"
    (tmp_path / "..s[1]-process-3.partial.safetensors").write_bytes(b"half")
    for indices, name in (((begin, 8), "s[1]"), ((0, 8), ".s[1]-process-1"), ((12, 16), ".s[1]-process-2")):
        process_file = tmp_path / f"{name}.safetensors"
        mine_remaining(small_network, image_set, key, process_file, torch.arange(*indices), batch_size=4)
    mine_remaining(small_network, image_set, key, file, batch_size=4)
    assert file.read_bytes() == expected
    assert not list(tmp_path.glob(".*"))


def test_parts_are_refused_that_do_not_make_the_whole(small_network, photo_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(mine_module, "PART_MULTIPLE", 4)
    image_set = find_images(photo_folder)
    files = [tmp_path / f"{part}.safetensors" for part in (1, 2, 3)]
    for number, file in enumerate(files, start=1):
        mine_part(small_network, image_set, file, (number, 3), batch_size=4)

    def refusal(*parts, image_set=image_set):
        with pytest.raises(DeconvnetError) as caught:
            merge_parts(small_network, image_set, parts)
        return str(caught.value)

    assert merge_parts(small_network, image_set, files[::-1]).done.all()
    assert "The parts lack 8 of 19 photos (the first is bee/07.png, the last cat/08.png)" in refusal(files[0], files[2])
    assert f"{files[1]} and {files[1]} both hold 8 photos" in refusal(files[0], files[1], files[1])
    mine_part(small_network, image_set, tmp_path / "top.safetensors", (2, 3), top=2)
    assert "top.safetensors was mined with top = 2 than" in refusal(files[0], tmp_path / "top.safetensors")
    assert "other photos, so it is no part" in refusal(*files, image_set=find_images(photo_folder / "ant"))
    small_network.module[2].k = 2.0  # the same weights
    assert "1.safetensors was mined with another network" in refusal(*files)
    with pytest.raises(UsageError, match="There is no part 4 of 3"):
        mine_part(small_network, image_set, files[0], (4, 3))
    small_network.module[2].k = 1.0
    with pytest.raises(DeconvnetError, match="holds another part of the photos"):
        mine_part(small_network, image_set, files[0], (2, 3))
