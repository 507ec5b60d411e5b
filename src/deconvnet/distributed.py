"""The processes started by `torchrun`, and how they exchange data: torch.distributed on the CPU (gloo)."""

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

from deconvnet.errors import DeconvnetError, UsageError

#: How long one process waits for another, which may still have hours of images to go.
_TIMEOUT = timedelta(days=30)


@dataclass(frozen=True)
class Processes:
    """The processes that work on one task, as seen from one of them. By default there is only this one.

    All methods raise `DeconvnetError` if another process is lost.
    """

    rank: int = 0
    """Index of this process, from 0."""
    world_size: int = 1
    """Number of processes."""

    @classmethod
    def from_environment(cls) -> Self:
        """As the environment variables of `torchrun` say; a single process if they are not set."""
        if not all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")):
            return cls()
        return cls(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))

    @property
    def is_first(self) -> bool:
        """Whether this process has rank 0, the only one that prints and writes results."""
        return self.rank == 0

    def broadcast(self, content: bytes = b"") -> bytes:
        """The `content` of rank 0, in all processes; the others' is ignored. Collective: every process must call it."""
        with self._peers_required():
            size = torch.tensor([len(content)])
            dist.broadcast(size, 0, self._group)
            data = _to_tensor(content) if self.is_first else torch.empty(int(size), dtype=torch.uint8)
            dist.broadcast(data, 0, self._group)
        return content if self.is_first else _to_bytes(data)

    def send(self, content: bytes) -> None:
        """Send `content` to rank 0, which must call `receive` with this process's rank."""
        with self._peers_required():
            dist.send(torch.tensor([len(content)]), 0, self._group)
            dist.send(_to_tensor(content), 0, self._group)

    def receive(self, rank: int) -> bytes:
        """What the process of that `rank` sends."""
        with self._peers_required():
            size = torch.zeros(1, dtype=torch.int64)
            dist.recv(size, rank, self._group)
            data = torch.empty(int(size), dtype=torch.uint8)
            dist.recv(data, rank, self._group)
        return _to_bytes(data)

    def all_reduce_sum(self, *values: float) -> tuple[float, ...]:
        """The sum of each value over all processes, in float64. Collective; also a barrier."""
        if self.world_size == 1:
            return values
        with self._peers_required():
            sums = torch.tensor(values, dtype=torch.float64)
            dist.all_reduce(sums, group=self._group)
        return tuple(sums.tolist())

    @contextmanager
    def process_group(self, device: torch.device) -> Iterator[None]:
        """Within, torch's default process group is set up (NCCL on a GPU), which `DistributedDataParallel` needs to average
        gradients on `device`. An error ends this process without waiting for the others, which it leaves to `torchrun`.
        """
        if self.world_size == 1:
            yield
            return
        if device.type == "cuda":
            torch.cuda.set_device(device)
            dist.init_process_group("nccl", device_id=device)
        else:
            dist.init_process_group("gloo")
        try:
            yield
        except BaseException as error:
            # Destroying a group of NCCL finishes its operations first. These wait for ever if the others, which do not know
            # of the error, are at another operation. Aborting gives them up.
            if dist.group.WORLD is not None:
                dist.group.WORLD.abort()
            if isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error)):
                raise self._peer_lost() from error  # gloo has no error class
            raise
        finally:
            dist.destroy_process_group()

    @cached_property
    def _group(self) -> Any:
        if not dist.is_initialized():
            dist.init_process_group("gloo", timeout=_TIMEOUT)
        # A separate group: the default one of the calling program may take only tensors on a GPU.
        return dist.new_group(backend="gloo", timeout=_TIMEOUT)

    @contextmanager
    def _peers_required(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # includes torch.distributed's own errors, whose messages help no user
            raise self._peer_lost() from error

    def _peer_lost(self) -> DeconvnetError:
        return DeconvnetError(
            f"Process {self.rank} of 0–{self.world_size - 1} has lost another one, which should have said why it ended."
        )


def local_device(device: torch.device | str | None = None) -> torch.device:
    """The device of this process. None is the default of all commands: a GPU if there is one, else the CPU.

    Under `torchrun`, "cuda" is the GPU with the process's number on its machine. Raises `UsageError` if there are fewer GPUs
    than processes, which NCCL does not allow.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(device)
    if device.type != "cuda" or device.index is not None or Processes.from_environment().world_size == 1:
        return device
    count, local_rank = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK", 0))
    if count and local_rank >= count:
        raise UsageError(
            f"This machine has fewer GPUs ({count}) than processes: start one for each, with --nproc-per-node {count}."
        )
    return torch.device("cuda", local_rank)


def _to_tensor(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content or b"\0"), dtype=torch.uint8)[: len(content)]  # refuses an empty buffer


def _to_bytes(data: Tensor) -> bytes:
    return data.numpy().tobytes()
