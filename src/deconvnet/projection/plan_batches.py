"""Which activations to project together, so that those that share work lie in one batch."""

import torch
from torch import Tensor

from deconvnet.models import Network

#: Reading a photo takes about as long as so many multiplications: 7 ms of one core for a JPEG of 500×375 pixels.
_MULTIPLICATIONS_OF_READING = 400_000_000


def plan_batches(
    network: Network, layer: str, units: Tensor, positions: Tensor, photos: Tensor, batch_size: int
) -> tuple[Tensor, ...]:
    """The indices of N activations of a layer in batches for `project_batch`, which is quickest if they share what it does.

    `units` and `photos` are (N,) and `positions` (N, 2) int64, on the CPU. Activations in one photo share its reading and
    its forward pass; those of one unit at one position share the way down to the highest max pooling, if all signals pass
    its output. Those lie together that share more, and those that share most come first. Batches are of equal sizes, at most
    `batch_size`, and even in number, so that of two cores neither waits for the other.
    """
    if not len(photos):
        return ()
    _, photo, photo_counts = torch.unique(photos, return_inverse=True, return_counts=True)
    _, top, top_counts = torch.unique(torch.column_stack([units, positions]), dim=0, return_inverse=True, return_counts=True)
    plan, groups, counts = network.switch_plan(layer), photo, photo_counts
    if plan is not None and plan.shares_top:
        saved_by_photo = (len(photos) - len(photo_counts)) * (_MULTIPLICATIONS_OF_READING + plan.multiplications_below)
        saved_by_top = (len(photos) - len(top_counts)) * plan.multiplications_above
        if saved_by_top > saved_by_photo:
            groups, counts = top, top_counts
    order = (groups - counts[groups] * len(photos)).argsort(stable=True)
    return torch.tensor_split(order, 2 * -(-len(photos) // (2 * batch_size)))
