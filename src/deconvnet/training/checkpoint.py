"""A checkpoint: all that a training run needs to go on exactly, as tensors and plain values in one safetensors file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from deconvnet.errors import DeconvnetError
from deconvnet.files import write_whole
from deconvnet.processes import Processes
from deconvnet.training.annealing import Plateau

_NEWEST, _PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"


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


def save_checkpoint(folder: Path, module: nn.Module, optimiser: torch.optim.Optimizer, progress: Progress) -> None:
    """Write a checkpoint beside the one before it, which is kept. Raises `DeconvnetError` if it cannot be written."""
    tensors = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    for name, parameter in module.named_parameters():
        momentum = optimiser.state[parameter].get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{name}"] = momentum
    content = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        {"progress": json.dumps(asdict(progress))},
    )
    newest = folder / _NEWEST
    if newest.exists():
        newest.replace(folder / _PREVIOUS)
    write_whole(newest, content)


def load_checkpoint(folder: Path, module: nn.Module, optimiser: torch.optim.Optimizer, processes: Processes) -> Progress:
    """Put the newest whole checkpoint into a module and its optimiser, in all processes; without one, change nothing.

    Raises `DeconvnetError` if there are checkpoints and none is whole.
    """
    content = processes.tell(_newest(folder) if processes.first else b"") if processes.count > 1 else _newest(folder)
    if not content:
        return Progress()
    tensors, entries = _parse(content)
    module.load_state_dict({name: tensors[f"module.{name}"] for name in module.state_dict()})
    for name, parameter in module.named_parameters():
        if f"momentum.{name}" in tensors:
            momentum = tensors[f"momentum.{name}"].to(parameter.device)
            optimiser.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum)
    return Progress(**{**entries, "plateau": Plateau(**entries["plateau"])})


def _newest(folder: Path) -> bytes:
    there = [folder / name for name in (_NEWEST, _PREVIOUS) if (folder / name).exists()]
    for file in there:
        content = file.read_bytes()
        try:
            _parse(content)
        except (SafetensorError, ValueError, KeyError, TypeError):
            continue
        return content
    if there:
        raise DeconvnetError(f"{there[0]} is damaged, and so is the one before it: remove {folder} and train again.")
    return b""


def _parse(content: bytes) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    size = int.from_bytes(content[:8], "little")  # safetensors.torch.load keeps the metadata to itself
    tensors = load(content)
    return tensors, json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["progress"])
