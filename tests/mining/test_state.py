"""What a state holds does not depend on the way to it, and a state file is read whole or refused."""

import json
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save, save_file

from deconvnet.errors import DeconvnetError
from deconvnet.mining import Key, State
from deconvnet.mining.state import share
from deconvnet.mining.statistics import Statistics


def key(photos=40, **changes):
    found = {"layers": {"a": 2, "b": 3}, "top": 3, "photo_count": photos, "class_count": 2}
    return Key(**{"network": "n", "preprocessing": "p", "photos": "f", "answers": {}} | found | changes)


def filled(state, photos, seed=0):
    """Add the photos, every seventh of which is broken; what is found in a photo depends on its index only."""
    numbers = torch.Generator().manual_seed(seed)
    count = state.key.photo_count
    values = torch.randn(count, 5, generator=numbers) * 10 ** torch.randint(-12, 9, (count, 5), generator=numbers).float()
    labels = torch.randint(-1, 2, (count,), generator=numbers)
    good = photos[photos % 7 != 6]
    places = torch.arange(count)[:, None].expand(-1, 3)
    found = {"a": (values[good, :2], places[good, :2]), "b": (values[good, 2:], places[good])}
    state.add(good, found, labels[good], {index: f"broken {index}" for index in photos.tolist() if index % 7 == 6})
    return state


@settings(max_examples=50, deadline=None)
@given(photos=st.integers(1, 40), cuts=st.lists(st.integers(0, 40), max_size=6), data=st.data(), seed=st.integers(0, 99))
def test_any_split_in_any_order_merges_to_the_same_bytes(photos, cuts, data, seed):
    bounds = sorted({0, photos, *(cut for cut in cuts if cut < photos)})
    ranges = data.draw(st.permutations([torch.arange(a, b) for a, b in pairwise(bounds)]))
    wanted = filled(State(key(photos)), torch.arange(photos), seed).to_bytes()
    running, merged = State(key(photos)), State(key(photos))
    for part in ranges:
        filled(running, part, seed)
        alone = filled(State(key(photos)), part, seed)
        merged.merge(State.from_bytes(alone.to_bytes(), "it"))
    assert running.to_bytes() == merged.to_bytes() == wanted
    assert State.from_bytes(wanted, "it").to_bytes() == wanted


def test_sums_are_exact():
    """To the last bit what rational arithmetic gives, from 2⁻²⁴ up to the largest value that is taken."""
    torch.manual_seed(0)
    maxima = torch.rand(500, 3) * 2.0 ** torch.randint(0, 31, (500, 3)) * torch.tensor([1, 2.0**-20, 1e-3])
    maxima[maxima < 2**-24] = 0
    statistics = Statistics(3, 0)
    for part in maxima.split(37):
        statistics.add(part, torch.full((len(part),), -1))
    for unit in range(3):
        exact = sum(Fraction(value) for value in maxima[:, unit].tolist())
        coarse, fine = statistics.totals[:, 0, unit].tolist()
        assert Fraction(coarse, 2**8) + Fraction(fine, 2**48) == exact
        assert 0 <= fine < 2**40
        assert statistics.sums[unit].item() == pytest.approx(float(exact), rel=1e-15)


def test_states_that_do_not_fit_are_not_merged():
    first = filled(State(key()), torch.arange(0, 20))
    before = first.to_bytes()
    with pytest.raises(DeconvnetError, match="4 photos were mined twice"):
        first.merge(filled(State(key()), torch.arange(16, 30)))
    with pytest.raises(DeconvnetError, match=r"another network and top = 4"):
        first.merge(State(key(network="other", top=4)))
    assert first.to_bytes() == before


@pytest.mark.parametrize("change", [{"photos": "g"}, {"preprocessing": "q"}, {"layers": {"a": 2}}, {"top": 9}])
def test_a_file_of_another_search_is_refused(tmp_path, change):
    State(key()).save(tmp_path / "state.safetensors")
    with pytest.raises(DeconvnetError, match=r"was mined with (another|other|top = 3)"):
        State.load(tmp_path / "state.safetensors", key(**change))


def test_what_is_no_whole_state_file_is_one_sentence(tmp_path):
    content = filled(State(key()), torch.arange(20)).to_bytes()
    file = tmp_path / "state.safetensors"
    for cut in (0, 7, 8, 200, len(content) - 1):
        file.write_bytes(content[:cut])
        with pytest.raises(DeconvnetError, match="is not a whole state file"):
            State.load(file)
    save_file({"x": torch.zeros(3)}, file)
    with pytest.raises(DeconvnetError, match="is not a whole state file"):
        State.load(file)
    with pytest.raises(DeconvnetError, match="There is no file"):
        State.load(tmp_path / "gone.safetensors")
    with pytest.raises(DeconvnetError, match="cannot be read: Is a directory"):
        State.load(tmp_path)


def rewritten(change):
    """The content of a state file after `change(tensors, description)`."""
    content = filled(State(key()), torch.arange(20)).to_bytes()
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
        State.from_bytes(rewritten(change), "it")


@settings(max_examples=50, deadline=None)
@given(photos=st.sets(st.integers(0, 200)), of=st.integers(1, 6), grain=st.integers(1, 40))
def test_shares_are_disjoint_and_complete_and_keep_batches_whole(photos, of, grain):
    left = torch.tensor(sorted(photos), dtype=torch.int64)
    shares = [share(left, part, of, grain).tolist() for part in range(of)]
    assert [photo for part in shares for photo in part] == left.tolist()
    batches = [{photo // grain for photo in part} for part in shares]
    assert sum(map(len, batches)) == len(set().union(*batches))
    assert max(map(len, batches)) - min(map(len, batches)) <= 1
