"""The processes that `torchrun` started, and what they say to each other through torch.distributed, on the CPU."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor

from deconvnet.errors import DeconvnetError

#: How long one process waits for another, which may have hours of photos left.
_PATIENCE = timedelta(days=30)


@dataclass(frozen=True)
class Processes:
    """Number of this process among those that work together; by default it is alone."""

    rank: int = 0
    count: int = 1

    @classmethod
    def here(cls) -> Self:
        """Those of the environment variables that `torchrun` sets, if it does."""
        if not all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")):
            return cls()
        return cls(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))

    @property
    def first(self) -> bool:
        return self.rank == 0

    def broadcast(self, content: bytes = b"") -> bytes:
        """Give all processes what the first one has. All must call it."""
        with self._all_there():
            size = torch.tensor([len(content)])
            dist.broadcast(size, 0, self._group)
            data = _tensor(content) if self.first else torch.empty(int(size), dtype=torch.uint8)
            dist.broadcast(data, 0, self._group)
        return content if self.first else _bytes(data)

    def send(self, content: bytes) -> None:
        """Give the first process, which must call `receive`, something."""
        with self._all_there():
            dist.send(torch.tensor([len(content)]), 0, self._group)
            dist.send(_tensor(content), 0, self._group)

    def receive(self, rank: int) -> bytes:
        """What process number `rank` sends."""
        with self._all_there():
            size = torch.zeros(1, dtype=torch.int64)
            dist.recv(size, rank, self._group)
            data = torch.empty(int(size), dtype=torch.uint8)
            dist.recv(data, rank, self._group)
        return _bytes(data)

    def all_reduce_sum(self, *values: float) -> tuple[float, ...]:
        """The sum of each value over all processes, in float64. All must call it, and go on when all have."""
        if self.count == 1:
            return values
        with self._all_there():
            sums = torch.tensor(values, dtype=torch.float64)
            dist.all_reduce(sums, group=self._group)
        return tuple(sums.tolist())

    @contextmanager
    def process_group(self, device: torch.device) -> Iterator[None]:
        """Within, `DistributedDataParallel` averages gradients on `device` over all processes.

        Raises `DeconvnetError` where another process is lost.
        """
        if self.count == 1:
            yield
            return
        if device.type == "cuda":
            dist.init_process_group("nccl", device_id=device)
        else:
            dist.init_process_group("gloo")
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, dist.DistError) or "gloo" in str(error):  # which raises no kind of its own
                raise self._lost() from error
            raise
        finally:
            dist.destroy_process_group()

    @cached_property
    def _group(self) -> Any:
        if not dist.is_initialized():
            dist.init_process_group("gloo", timeout=_PATIENCE)
        # A group of our own, as that of the program that uses this package may take a GPU's tensors only.
        return dist.new_group(backend="gloo", timeout=_PATIENCE)

    @contextmanager
    def _all_there(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # torch.distributed's own errors among them; what they say helps nobody
            raise self._lost() from error

    def _lost(self) -> DeconvnetError:
        return DeconvnetError(
            f"Process {self.rank} of 0–{self.count - 1} has lost another one, which should have said why it ended."
        )


def _tensor(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content or b"\0"), dtype=torch.uint8)[: len(content)]


def _bytes(data: Tensor) -> bytes:
    return data.numpy().tobytes()
