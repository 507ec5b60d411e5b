"""A state's content does not depend on the order and grouping of additions, and a state file is read whole or refused."""

import json
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save, save_file

from deconvnet.errors import DeconvnetError
from deconvnet.mining import MiningKey, MiningState, split_indices
from deconvnet.mining.statistics import Statistics


def key(image_count=40, **changes):
    digests = {"network_digest": "n", "preprocessing_digest": "p", "image_set_digest": "f", "probe_maxima": {}}
    others = {"layers": {"a": 2, "b": 3}, "top": 3, "image_count": image_count, "class_count": 2}
    return MiningKey(**digests | others | changes)


def filled(state, indices, seed=0):
    """Add the images, every seventh of which is broken; the maxima of an image depend on its index only."""
    generator = torch.Generator().manual_seed(seed)
    count = state.key.image_count
    values = torch.randn(count, 5, generator=generator)
    values *= 10 ** torch.randint(-12, 9, (count, 5), generator=generator).float()
    labels = torch.randint(-1, 2, (count,), generator=generator)
    good = indices[indices % 7 != 6]
    flat_positions = torch.arange(count)[:, None].expand(-1, 3)
    maxima = {"a": (values[good, :2], flat_positions[good, :2]), "b": (values[good, 2:], flat_positions[good])}
    state.add(
        good, maxima, labels[good], good * 7 + 1, {index: f"broken {index}" for index in indices.tolist() if index % 7 == 6}
    )
    return state


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 40), cuts=st.lists(st.integers(0, 40), max_size=6), data=st.data(), seed=st.integers(0, 99))
def test_any_split_in_any_order_merges_to_the_same_bytes(count, cuts, data, seed):
    bounds = sorted({0, count, *(cut for cut in cuts if cut < count)})
    ranges = data.draw(st.permutations([torch.arange(a, b) for a, b in pairwise(bounds)]))
    expected = filled(MiningState(key(count)), torch.arange(count), seed).to_bytes()
    running, merged = MiningState(key(count)), MiningState(key(count))
    for indices in ranges:
        filled(running, indices, seed)
        separate = filled(MiningState(key(count)), indices, seed)
        merged.merge(MiningState.from_bytes(separate.to_bytes(), "it"))
    assert running.to_bytes() == merged.to_bytes() == expected
    assert MiningState.from_bytes(expected, "it").to_bytes() == expected


def test_sums_are_exact():
    """Equal to rational arithmetic to the last bit, from 2⁻²⁴ up to the largest value that is accepted."""
    torch.manual_seed(0)
    maxima = torch.rand(500, 3) * 2.0 ** torch.randint(0, 31, (500, 3)) * torch.tensor([1, 2.0**-20, 1e-3])
    maxima[maxima < 2**-24] = 0
    statistics = Statistics(3, 0)
    for chunk in maxima.split(37):
        statistics.add(chunk, torch.full((len(chunk),), -1))
    for unit in range(3):
        exact = sum(Fraction(value) for value in maxima[:, unit].tolist())
        coarse, fine = statistics.totals[:, 0, unit].tolist()
        assert Fraction(coarse, 2**8) + Fraction(fine, 2**48) == exact
        assert 0 <= fine < 2**40
        assert statistics.sums[unit].item() == pytest.approx(float(exact), rel=1e-15)


def test_states_that_do_not_fit_are_not_merged():
    first = filled(MiningState(key()), torch.arange(0, 20))
    before = first.to_bytes()
    with pytest.raises(DeconvnetError, match="4 photos were mined twice"):
        first.merge(filled(MiningState(key()), torch.arange(16, 30)))
    with pytest.raises(DeconvnetError, match=r"another network and top = 4"):
        first.merge(MiningState(key(network_digest="other", top=4)))
    assert first.to_bytes() == before


@pytest.mark.parametrize(
    "change", [{"image_set_digest": "g"}, {"preprocessing_digest": "q"}, {"layers": {"a": 2}}, {"top": 9}]
)
def test_a_file_of_another_search_is_refused(tmp_path, change):
    MiningState(key()).save(tmp_path / "state.safetensors")
    with pytest.raises(DeconvnetError, match=r"was mined with (another|other|top = 3)"):
        MiningState.load(tmp_path / "state.safetensors", key(**change))


def test_what_is_no_whole_state_file_is_one_sentence(tmp_path):
    content = filled(MiningState(key()), torch.arange(20)).to_bytes()
    file = tmp_path / "state.safetensors"
    for cut in (0, 7, 8, 200, len(content) - 1):
        file.write_bytes(content[:cut])
        with pytest.raises(DeconvnetError, match="is not a whole state file"):
            MiningState.load(file)
    save_file({"x": torch.zeros(3)}, file)
    with pytest.raises(DeconvnetError, match="is not a whole state file"):
        MiningState.load(file)
    with pytest.raises(DeconvnetError, match="There is no file"):
        MiningState.load(tmp_path / "gone.safetensors")
    with pytest.raises(DeconvnetError, match="cannot be read: Is a directory"):
        MiningState.load(tmp_path)


def rewritten(change):
    """The content of a state file after `change(tensors, description)`."""
    content = filled(MiningState(key()), torch.arange(20)).to_bytes()
    tensors = load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    ((entry, description),) = header["__metadata__"].items()
    description = json.loads(description)
    change(tensors, description)
    return save(tensors, {entry: json.dumps(description)})


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, description: description.update(format=2),
        lambda tensors, description: description.pop("skipped"),
        lambda tensors, description: description["key"].pop("top"),
        lambda tensors, description: description["key"].update(layers={"a": -2}),
        lambda tensors, description: description["skipped"].append([40, "x"]),
        lambda tensors, description: tensors.pop("a/values"),
        lambda tensors, description: tensors.update({"a/values": tensors["a/values"][:, :2].contiguous()}),
        lambda tensors, description: tensors.update({"a/images": tensors["a/images"].int()}),
        lambda tensors, description: tensors["a/images"].fill_(40),
        lambda tensors, description: tensors["a/images"].fill_(39),
        lambda tensors, description: tensors["a/places"].fill_(-1),
    ],
)
def test_a_damaged_state_file_is_one_sentence(change):
    with pytest.raises(DeconvnetError, match=r"^it (is a damaged|was written by another)[^\n]*$"):
        MiningState.from_bytes(rewritten(change), "it")


def test_a_state_of_a_fast_search_is_refused():
    """Version 0.1 also searched in bfloat16, whose states hold approximate values."""
    content = rewritten(lambda tensors, description: description["key"].update(fast=True))
    with pytest.raises(DeconvnetError, match=r"^it is of a search with --fast, [^\n]*\.$"):
        MiningState.from_bytes(content, "it")


@settings(max_examples=50, deadline=None)
@given(indices=st.sets(st.integers(0, 200)), count=st.integers(1, 6), batch_size=st.integers(1, 40))
def test_shares_are_disjoint_and_complete_and_keep_batches_whole(indices, count, batch_size):
    indices = torch.tensor(sorted(indices), dtype=torch.int64)
    shares = [split_indices(indices, rank, count, batch_size).tolist() for rank in range(count)]
    assert [index for share in shares for index in share] == indices.tolist()
    batches = [{index // batch_size for index in share} for share in shares]
    assert sum(map(len, batches)) == len(set().union(*batches))
    assert max(map(len, batches)) - min(map(len, batches)) <= 1
