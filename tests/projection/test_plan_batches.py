"""Activations that share work are projected together."""

from itertools import groupby

import pytest
import torch

from deconvnet.models import load
from deconvnet.projection import plan_batches


@pytest.mark.parametrize(("count", "batch_size"), [(0, 4), (1, 4), (4, 4), (9, 4), (40, 7)])
@pytest.mark.parametrize("shared", ["photos", "positions"])
def test_activations_that_share_most_share_a_batch(small_network, shared, count, batch_size):
    groups, each = torch.arange(count) * 7 % 5, torch.arange(count)
    units, positions = each % 8, torch.stack([each // 8, each // 8], dim=1)
    photos = groups
    if shared == "positions":
        units, positions, photos = groups, torch.tensor([[2, 3]] * count).view(-1, 2), each
    planned = plan_batches(small_network, "conv2", units, positions, photos, batch_size)
    batches = [batch.tolist() for batch in planned]
    assert sorted(index for batch in batches for index in batch) == list(range(count))
    sizes = [len(batch) for batch in batches]
    assert len(sizes) % 2 == 0
    assert not sizes or max(sizes) <= min(batch_size, min(sizes) + 1)
    runs = [group for group, _ in groupby(groups[index].item() for batch in batches for index in batch)]
    assert len(runs) == len(set(runs))
    counts = [int((groups == group).sum()) for group in runs]
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize(("layer", "by_photo"), [("layer1.2.relu#3", True), ("layer4.2.relu#3", False)])
def test_photos_are_shared_where_reading_takes_longer_than_the_way_down(layer, by_photo):
    network = load("torchvision:resnet50:random")
    photos, units = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
    batches = plan_batches(network, layer, units, torch.tensor([[1, 1]] * 4), photos, 2)
    shared = photos if by_photo else units
    assert [len(set(shared[batch].tolist())) for batch in batches] == [1, 1]
