"""The search in two steps: what it says of a hit is exact, and it misses none where every photo is a candidate."""

import pytest
import torch

from deconvnet.atlas import Atlas
from deconvnet.data import find_images
from deconvnet.errors import DeconvnetError
from deconvnet.mining import Key, State, mine
from deconvnet.mining import state as state_module


@pytest.fixture
def few_candidates(monkeypatch):
    """As many as hits are asked for: then bfloat16 decides alone which photos are hits."""
    monkeypatch.setattr(state_module, "CANDIDATES", 1)


def test_candidates_are_what_may_be_a_hit(small_network, photo_folder):
    state = State(Key.of(small_network, find_images(photo_folder), ["conv2"], 2, fast=True))
    kept = state.strongest["conv2"]
    assert kept.values.shape[1] == 64
    kept.values[0, :5], kept.images[0, :5] = torch.tensor([9, 5, 4.95, 4.91, 4.89]), torch.tensor([8, 3, 1, 7, 2])
    kept.values[1, :1], kept.images[1, :1] = 3, 4  # fewer than are asked for
    assert state.candidates.tolist() == [1, 3, 4, 7, 8]


def test_where_all_photos_are_candidates_it_finds_what_the_exact_search_finds(small_network, photo_folder, monkeypatch):
    monkeypatch.setattr(state_module, "MARGIN", 1.0)
    exact, fast = (mine(small_network, photo_folder, top=4, fast=fast) for fast in (False, True))
    assert fast.searched_again == 18
    assert exact.searched_again is None
    assert fast.skipped == exact.skipped
    for name in exact.layers:
        assert list(fast[name]) == list(exact[name])


def test_what_it_says_of_a_hit_is_exact_even_if_others_are_missed(small_network, photo_folder, few_candidates):
    exact, fast = (mine(small_network, photo_folder, top=2, fast=fast) for fast in (False, True))
    assert fast.searched_again < 18
    every = mine(small_network, photo_folder, top=50)
    for name in exact.layers:
        for unit, hits in enumerate(fast[name]):
            known = {hit.image: hit for hit in every[name][unit]}
            for hit in hits:
                assert hit.value == pytest.approx(known[hit.image].value, rel=1e-5)
                assert (hit.row, hit.column, hit.box) == (
                    known[hit.image].row,
                    known[hit.image].column,
                    known[hit.image].box,
                )
            assert [hit.value for hit in hits] == sorted((hit.value for hit in hits), reverse=True)
            assert bool(hits) == bool(exact[name][unit])


def test_its_statistics_are_those_of_bfloat16(small_network, photo_folder):
    exact, fast = (mine(small_network, photo_folder, fast=fast) for fast in (False, True))
    for name in exact.layers:
        ours, theirs = fast[name].statistics, exact[name].statistics
        assert ours.images == theirs.images == 18
        assert torch.allclose(ours.mean_max, theirs.mean_max, rtol=0.02)
        assert not torch.equal(ours.mean_max, theirs.mean_max)


def test_a_fast_search_is_not_mixed_with_an_exact_one(small_network, photo_folder, tmp_path):
    file = tmp_path / "state.safetensors"
    mine(small_network, photo_folder, fast=True, state=file)
    mine(small_network, photo_folder, fast=True, state=file)  # goes on, with nothing left to do
    with pytest.raises(DeconvnetError, match=r"was mined with bfloat16 \(--fast\): "):
        mine(small_network, photo_folder, state=file)


@pytest.mark.parametrize(("capability", "fast", "said"), [("AVX2", True, 1), ("AVX512", True, 0), ("AVX2", False, 0)])
def test_a_processor_without_bfloat16_is_warned_of(small_network, photo_folder, monkeypatch, capsys, capability, fast, said):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    mine(small_network, photo_folder, fast=fast, progress=True)
    assert capsys.readouterr().err.count("computes bfloat16 much slower") == said


def test_an_earlier_state_file_is_of_an_exact_search(small_network, photo_folder):
    key = Key.of(small_network, find_images(photo_folder), ["conv1"], 9)
    assert Key(**{name: value for name, value in vars(key).items() if name != "fast"}) == key


def test_the_atlas_says_how_it_was_searched(small_network, photo_folder, tmp_path):
    fast = Atlas.build(small_network, photo_folder, tmp_path / "fast", top=2, fast=True)
    exact = Atlas.build(small_network, photo_folder, tmp_path / "exact", top=2)
    assert 0 < fast.description["search"].pop("searched_again") <= 18
    assert fast.description["search"] == {"precision": "bfloat16", "margin": 0.02}
    assert exact.description["search"] == {"precision": "float32"}
    assert fast.hits == exact.hits
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "fast", "exact"}


def test_a_network_that_does_not_run_in_bfloat16_is_told_so(small_network, photo_folder, monkeypatch):
    forward = small_network.module.forward

    def mixing(x):
        torch.zeros(1).index_add_(0, torch.tensor([0]), small_network.module[0](x).flatten()[:1])
        return forward(x)

    mine(small_network, photo_folder, fast=True)
    monkeypatch.setattr(small_network.module, "forward", mixing)
    with pytest.raises(DeconvnetError, match=r"does not run in bfloat16 \(.*\): leave out --fast\."):
        mine(small_network, photo_folder, ["fc3"], fast=True)
