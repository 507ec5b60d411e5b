"""Read a network's inputs: images are decoded by threads, items of a data set come from PyTorch's `DataLoader`."""

from collections.abc import Generator, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvnet.data import Batch, ImageSet, InputDataset, InputSet, InputStream, read_batch, split_batches, upload
from deconvnet.data.input_dataset import make_batch
from deconvnet.data.loader import prefetch, reading_threads
from deconvnet.data.packed_views import check_packed_views
from deconvnet.errors import UsageError
from deconvnet.models.network import Network


class InputReader:
    """Reads batches in two steps: `items` is iterated in one thread, and `read` may be called for each item in others."""

    def __init__(self, network: Network, input_set: InputSet, batch_size: int) -> None:
        """Raises `UsageError` for images if the network has no preprocessing, and if `batch_size` is below 1;
        `DeconvnetError` for a packed set that lacks what the network is shown.
        """
        if batch_size < 1:
            raise UsageError(f"batch_size = {batch_size}: it must be 1 or more.")
        self.network, self.input_set, self.batch_size = network, input_set, batch_size
        if isinstance(input_set, ImageSet):
            check_packed_views(input_set, network.preprocessing, network.full_name)

    def items(self, batches: Sequence[Sequence[int]]) -> Iterable[Any]:
        """What `read` makes batches of, for each of `batches`: lists of at most `batch_size` indices."""
        return self.input_set.load(batches) if isinstance(self.input_set, InputDataset) else batches

    def stream(self) -> Iterable[Any]:
        """What `read` makes batches of, of an iterable."""
        assert isinstance(self.input_set, InputStream)
        return self.input_set.load(self.batch_size)

    def read(self, item: Any, rows: int | None = None) -> Batch:
        """One batch, as `to_inputs` takes it: of images the pixels of their views, of a data set its tensors.

        It has `rows` rows (default: the batch size), of which those that no input fills are zero.
        """
        rows = rows or self.batch_size
        if isinstance(self.input_set, ImageSet):
            return read_batch(self.input_set, self.network.preprocessing.view_pixels, item, rows)
        return make_batch(self.input_set, item, self.network.input_shape, rows)

    def batches(self, indices: Sequence[int], workers: int | None = None) -> Generator[Batch]:
        """All batches of the inputs `indices`, read ahead by `workers` threads where files are decoded."""
        threads = workers or reading_threads(self.batch_size)
        return prefetch(self.read, self.items(split_batches(indices, self.batch_size)), threads, threads)


def to_inputs(network: Network, tensor: Tensor) -> Tensor:
    """The inputs (N, C, H, W) of a batch that `InputReader` read, on the network's device: pixels are normalised."""
    uploaded = upload(tensor, network.device)
    return network.preprocessing.normalise(uploaded) if tensor.dtype == torch.uint8 else uploaded


def to_pictures(network: Network, tensor: Tensor) -> np.ndarray:
    """What is shown of a batch that `InputReader` read, as `Network.show` gives it; of photos the pixels themselves."""
    if tensor.dtype == torch.uint8:
        if network.input_space.shows_pixels:
            return tensor.numpy()
        tensor = network.preprocessing.normalise(tensor)
    return network.show(tensor)
