"""The snapshots of a training run, as networks."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from deconvnet.errors import DeconvnetError
from deconvnet.models import Network, load
from deconvnet.training.run_folder import FORMAT, Run


@dataclass(frozen=True)
class Snapshots:
    """Where the weights of a run's network lie, as they were after some of its epochs."""

    network: str
    files: dict[int, Path]
    """By epoch, ascending."""

    @property
    def epochs(self) -> list[int]:
        return list(self.files)

    def load(self, epoch: int, like: Network | None = None) -> Network:
        """The network after an epoch. Raises `DeconvnetError` if the file is damaged or of another network (than `like`)."""
        file = self.files[epoch]
        try:
            network = load(self.network, weights=file)
        except DeconvnetError as error:
            reason = str(error).partition(": pass ")[0].rstrip(".")
            raise DeconvnetError(f"A snapshot of {self.network} was expected, but {reason}: remove that file.") from error
        if like is not None and _kind(network) != _kind(like):
            raise DeconvnetError(f"{file} is a snapshot of another network than the run's last one: remove that file.")
        return network


def open_snapshots(run: Path) -> Snapshots:
    """The snapshots of a run's folder; the weights that a finished run ends with are the last of them.

    Raises `DeconvnetError` if the folder is no run, or has no snapshot yet.
    """
    file = run / "run.json"
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
        if described["format"] != FORMAT:
            raise DeconvnetError(f"{run} is a run of another version of deconvnet: train again.")
        network, last = str(described["network"]), int(described["recipe"]["epochs"])
    except (FileNotFoundError, NotADirectoryError):
        raise DeconvnetError(f"{run} is no training run: pass the folder that `deconvnet train` has made.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or "it is damaged"
        raise DeconvnetError(f"{file} cannot be read ({reason}): train again.") from None
    found = {int(path.stem.removeprefix("epoch-")): path for path in run.glob("snapshots/epoch-[0-9]*.safetensors")}
    if not found:
        raise DeconvnetError(f"{run} has no snapshot yet: the first is there after epoch 1.")
    weights = Run(run).weights
    if weights.exists():
        found.setdefault(last, weights)
    return Snapshots(network, dict(sorted(found.items())))


def _kind(network: Network) -> object:
    """What all snapshots of a run have in common."""
    preprocessing = network.preprocessing
    layers = {name: (layer.units, layer.map_size) for name, layer in network.layers.items()}
    numbers = torch.cat([preprocessing.mean.flatten(), preprocessing.std.flatten()]).tolist()
    return network.name, layers, preprocessing.resize, preprocessing.crop, preprocessing.scale, numbers
