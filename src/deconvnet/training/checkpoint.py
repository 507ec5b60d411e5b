"""A checkpoint: everything a training run needs to resume exactly, as tensors and plain values in one safetensors file."""

import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from deconvnet.distributed import Processes
from deconvnet.errors import DeconvnetError
from deconvnet.storage import atomic_write
from deconvnet.training.schedule import Plateau

#: Seconds between two checkpoints, and at least this many times as long as writing one takes.
SAVE_INTERVAL, SAVE_TIME_FACTOR = 60.0, 100


@dataclass
class TrainingProgress:
    """How far a run is, in plain values. Everything random follows from `epoch` and `step`."""

    epoch: int = 1
    """The current epoch, from 1."""
    step: int = 0
    """Steps done in this epoch."""
    images_seen: int = 0
    """Images shown in this epoch."""
    errors: int = 0
    """How many of them were misclassified."""
    loss_sum: float = 0.0
    """The sum of their losses."""
    plateau: Plateau = field(default_factory=Plateau)
    smoothed_loss: float = 0.0
    """Moving average of the loss."""
    steps_at_chance: int = 0
    """Steps since the smoothed loss was last better than chance."""
    seconds: float = 0.0
    """Time spent on this run so far; the only value here that a restart changes."""
    log_sizes: dict[str, int] = field(default_factory=dict)
    """Bytes of each log file."""

    def next_epoch(self, plateau: Plateau) -> Self:
        """The progress at the start of the next epoch."""
        return replace(self, epoch=self.epoch + 1, step=0, images_seen=0, errors=0, loss_sum=0.0, plateau=plateau)

    def as_json(self) -> dict[str, Any]:
        """Plain values under the names they have in checkpoints (docs/file-formats.md)."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "seen": self.images_seen,
            "wrong": self.errors,
            "loss": self.loss_sum,
            "plateau": self.plateau.as_json(),
            "smooth": self.smoothed_loss,
            "at_chance": self.steps_at_chance,
            "seconds": self.seconds,
            "sizes": self.log_sizes,
        }

    @classmethod
    def from_json(cls, entries: dict[str, Any]) -> Self:
        """The inverse of `as_json`. Raises `KeyError` or `TypeError` for anything else."""
        return cls(
            epoch=entries["epoch"],
            step=entries["step"],
            images_seen=entries["seen"],
            errors=entries["wrong"],
            loss_sum=entries["loss"],
            plateau=Plateau.from_json(entries["plateau"]),
            smoothed_loss=entries["smooth"],
            steps_at_chance=entries["at_chance"],
            seconds=entries["seconds"],
            log_sizes=entries["sizes"],
        )


class Checkpoints:
    """The two newest checkpoints of a run. Only the first process writes them."""

    def __init__(self, folder: Path, module: nn.Module, optimiser: torch.optim.Optimizer, processes: Processes) -> None:
        self.newest = folder / "checkpoint.safetensors"
        self.previous = folder / "checkpoint.previous.safetensors"
        self._module, self._optimiser, self._processes = module, optimiser, processes
        self._next_save = time.monotonic() + SAVE_INTERVAL

    @property
    def is_due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() > self._next_save

    def save(self, progress: TrainingProgress) -> None:
        """Write a checkpoint and keep the previous one. Raises `DeconvnetError` if it cannot be written."""
        if not self._processes.is_first:
            return
        start = time.monotonic()
        tensors = {f"module.{name}": tensor for name, tensor in self._module.state_dict().items()}
        for name, parameter in self._module.named_parameters():
            momentum = self._optimiser.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum.{name}"] = momentum
        content = save(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            {"progress": json.dumps(progress.as_json())},
        )
        try:
            if self.newest.exists():
                self.newest.replace(self.previous)
        except OSError as error:
            raise DeconvnetError(f"{self.previous} cannot be written: {error.strerror or error}.") from error
        atomic_write(self.newest, content)
        end = time.monotonic()
        self._next_save = end + max(SAVE_INTERVAL, SAVE_TIME_FACTOR * (end - start))

    def load(self) -> TrainingProgress:
        """Load the newest undamaged checkpoint into module and optimiser, in all processes; without one, change nothing.

        Raises `DeconvnetError` if all checkpoints are damaged.
        """
        content = self._read_newest() if self._processes.is_first else b""
        if self._processes.world_size > 1:
            content = self._processes.broadcast(content)
        if not content:
            return TrainingProgress()
        tensors, progress = _parse(content)
        self._module.load_state_dict({name: tensors[f"module.{name}"] for name in self._module.state_dict()})
        for name, parameter in self._module.named_parameters():
            if f"momentum.{name}" in tensors:
                momentum = tensors[f"momentum.{name}"].to(parameter.device)
                self._optimiser.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum)
        return progress

    def _read_newest(self) -> bytes:
        existing = [file for file in (self.newest, self.previous) if file.exists()]
        for file in existing:
            try:
                content = file.read_bytes()
                _parse(content)
            except (OSError, SafetensorError, ValueError, KeyError, TypeError):
                continue
            if file == self.previous:
                self.newest.unlink(missing_ok=True)  # the next `save` would replace the good one by this damaged one
            return content
        if existing:
            raise DeconvnetError(
                f"{self.newest} is damaged, and so is the one before it: remove {self.newest.parent} and train again."
            )
        return b""


def _parse(content: bytes) -> tuple[dict[str, Tensor], TrainingProgress]:
    header_size = int.from_bytes(content[:8], "little")  # safetensors.torch.load does not return the metadata
    tensors = load(content)
    entries = json.loads(json.loads(content[8 : 8 + header_size])["__metadata__"]["progress"])
    return tensors, TrainingProgress.from_json(entries)
