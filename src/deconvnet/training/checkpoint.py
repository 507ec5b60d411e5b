"""A checkpoint: all that a training run needs to go on exactly, as tensors and plain values in one safetensors file."""

import json
import time
from dataclasses import dataclass, field
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

#: Seconds between two checkpoints, and at least so many times as long as writing one takes.
SAVE_EVERY, TIMES_AS_LONG = 60.0, 100


@dataclass
class Progress:
    """Where a run is, in plain values. Everything random follows from `epoch` and `step`."""

    epoch: int = 1
    """The epoch that is under way, from 1."""
    step: int = 0
    """Steps made of it."""
    seen: int = 0
    """Photos shown in it …"""
    wrong: int = 0
    """… of which so many were classified wrongly …"""
    loss: float = 0.0
    """… and the sum of their losses."""
    plateau: Plateau = field(default_factory=Plateau)
    smooth: float = 0.0
    """Moving average of the loss."""
    at_chance: int = 0
    """Steps since it was better than chance."""
    seconds: float = 0.0
    """Spent on this run so far; the one number here that a restart changes."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Bytes of each log."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, as they stand in a checkpoint (docs/file-formats.md)."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "seen": self.seen,
            "wrong": self.wrong,
            "loss": self.loss,
            "plateau": self.plateau.as_json(),
            "smooth": self.smooth,
            "at_chance": self.at_chance,
            "seconds": self.seconds,
            "sizes": self.sizes,
        }

    @classmethod
    def from_json(cls, entries: dict[str, Any]) -> Self:
        """What `as_json` gave. Raises `KeyError` or `TypeError` for anything else."""
        return cls(
            epoch=entries["epoch"],
            step=entries["step"],
            seen=entries["seen"],
            wrong=entries["wrong"],
            loss=entries["loss"],
            plateau=Plateau.from_json(entries["plateau"]),
            smooth=entries["smooth"],
            at_chance=entries["at_chance"],
            seconds=entries["seconds"],
            sizes=entries["sizes"],
        )


class Checkpoints:
    """The two newest checkpoints of a run, which the first of its processes writes."""

    def __init__(self, folder: Path, module: nn.Module, optimiser: torch.optim.Optimizer, processes: Processes) -> None:
        self.newest = folder / "checkpoint.safetensors"
        self.previous = folder / "checkpoint.previous.safetensors"
        self._module, self._optimiser, self._processes = module, optimiser, processes
        self._next = time.monotonic() + SAVE_EVERY

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() > self._next

    def save(self, progress: Progress) -> None:
        """Write a checkpoint; the one before it is kept. Raises `DeconvnetError` if it cannot be written."""
        if not self._processes.first:
            return
        began = time.monotonic()
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
        ended = time.monotonic()
        self._next = ended + max(SAVE_EVERY, TIMES_AS_LONG * (ended - began))

    def load(self) -> Progress:
        """Put the newest whole checkpoint into module and optimiser, in all processes; without one, change nothing.

        Raises `DeconvnetError` if there are checkpoints and none is whole.
        """
        content = self._read() if self._processes.first else b""
        if self._processes.count > 1:
            content = self._processes.broadcast(content)
        if not content:
            return Progress()
        tensors, progress = _parse(content)
        self._module.load_state_dict({name: tensors[f"module.{name}"] for name in self._module.state_dict()})
        for name, parameter in self._module.named_parameters():
            if f"momentum.{name}" in tensors:
                momentum = tensors[f"momentum.{name}"].to(parameter.device)
                self._optimiser.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum)
        return progress

    def _read(self) -> bytes:
        there = [file for file in (self.newest, self.previous) if file.exists()]
        for file in there:
            try:
                content = file.read_bytes()
                _parse(content)
            except (OSError, SafetensorError, ValueError, KeyError, TypeError):
                continue
            if file == self.previous:
                self.newest.unlink(missing_ok=True)  # damaged, it would take the place of the one that is whole
            return content
        if there:
            raise DeconvnetError(
                f"{self.newest} is damaged, and so is the one before it: remove {self.newest.parent} and train again."
            )
        return b""


def _parse(content: bytes) -> tuple[dict[str, Tensor], Progress]:
    size = int.from_bytes(content[:8], "little")  # safetensors.torch.load keeps the metadata to itself
    tensors = load(content)
    entries = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["progress"])
    return tensors, Progress.from_json(entries)
