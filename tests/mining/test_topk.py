"""The running top-k equals sorting everything, however the images are grouped, ordered, split and merged."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvnet.mining.statistics import HISTOGRAM_EDGES, Statistics
from deconvnet.mining.topk import NO_CHECKSUM, RunningTopK


def by_sorting(values, flat_positions, top):
    """(value, image, flat position) of each unit's best images."""
    rows = []
    for unit in range(values.shape[0]):
        order = sorted(range(values.shape[1]), key=lambda image: (-values[unit, image].item(), image))
        rows.append(
            [(values[unit, i].item(), i, flat_positions[unit, i].item()) for i in order if values[unit, i] > 0][:top]
        )
    return rows


def checksums_of(images):
    return images * 7 + 1


def entries(topk):
    has_entry = topk.images >= 0
    assert torch.equal(topk.checksums, checksums_of(topk.images).where(has_entry, NO_CHECKSUM))
    table = zip(topk.values.tolist(), topk.images.tolist(), topk.flat_positions.tolist(), strict=True)
    return [[entry for entry in zip(*unit, strict=True) if entry[1] >= 0] for unit in table]


@settings(max_examples=60, deadline=None)
@given(
    units=st.integers(1, 4),
    images=st.integers(1, 30),
    top=st.integers(1, 9),
    levels=st.sampled_from([3, 1000]),
    cuts=st.lists(st.integers(0, 30), max_size=4),
    seed=st.integers(0, 10**6),
)
def test_grouping_order_and_merging_do_not_matter(units, images, top, levels, cuts, seed):
    torch.manual_seed(seed)
    values = torch.randint(-1, levels, (units, images)).float()  # with few levels most values are equal
    flat_positions = torch.randint(0, 100, (units, images))
    shuffled = torch.randperm(images)
    bounds = sorted({0, images, *(min(cut, images) for cut in cuts)})
    groups = [shuffled[a:b] for a, b in pairwise(bounds)]

    running = RunningTopK(units, top)
    merged = RunningTopK(units, top)
    for group in groups:
        running.add(values[:, group], group, flat_positions[:, group], checksums_of(group))
        separate = RunningTopK(units, top)
        separate.add(values[:, group], group, flat_positions[:, group], checksums_of(group))
        merged.merge(separate)
    expected = by_sorting(values, flat_positions, top)
    assert entries(running) == expected
    assert entries(merged) == expected


def test_merged_statistics_equal_those_of_one_pass():
    maxima, labels = torch.rand(20, 3) * 10 - 2, torch.randint(-1, 2, (20,))
    whole, first, second = (Statistics(3, 2) for _ in range(3))
    whole.add(maxima, labels)
    first.add(maxima[:7], labels[:7])
    second.add(maxima[7:], labels[7:])
    first.merge(second)
    assert first.image_count == whole.image_count == 20
    for name in ("active", "histogram", "class_images"):
        assert torch.equal(getattr(first, name), getattr(whole, name))
    for name in ("sums", "class_sums", "selectivity", "mean_max"):
        torch.testing.assert_close(getattr(first, name), getattr(whole, name))


def test_a_maximum_at_an_edge_of_the_histogram_counts_as_its_exact_value_says():
    """As float64 would sort it, although it is sorted in float32."""
    edges = HISTOGRAM_EDGES.float()
    maxima = torch.cat([torch.nextafter(edges, torch.zeros_like(edges)), edges, torch.nextafter(edges, edges * 2)])
    statistics = Statistics(1, 0)
    statistics.add(maxima[:, None], torch.full((len(maxima),), -1))
    bins = torch.bucketize(maxima.double(), HISTOGRAM_EDGES, right=True)
    assert torch.equal(statistics.histogram[0], torch.bincount(bins, minlength=len(HISTOGRAM_EDGES) + 1))


def test_selectivity_of_a_unit_active_for_one_class_only_is_one():
    statistics = Statistics(2, 2)
    statistics.add(torch.tensor([[4.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 1]))
    assert statistics.selectivity.tolist() == pytest.approx([1.0, 0.0])
