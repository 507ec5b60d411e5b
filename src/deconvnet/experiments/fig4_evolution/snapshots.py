"""The snapshots of a training run, as networks."""

from dataclasses import dataclass
from pathlib import Path

import torch

from deconvnet.errors import DeconvnetError
from deconvnet.models import Network, load
from deconvnet.storage import read_json_object
from deconvnet.training.run_folder import FORMAT, RunFolder


@dataclass(frozen=True)
class Snapshots:
    """The files with the weights of a run's network after some of its epochs."""

    network: str
    """Name of the architecture, as `load` takes it."""
    files: dict[int, Path]
    """By epoch, ascending."""

    @property
    def epochs(self) -> list[int]:
        return list(self.files)

    def load(self, epoch: int, reference: Network | None = None) -> Network:
        """The network after an epoch.

        Raises `DeconvnetError` if the file is damaged, or its layers or preprocessing are not those of `reference`.
        """
        file = self.files[epoch]
        try:
            network = load(self.network, weights=file)
        except DeconvnetError as error:
            reason = str(error).partition(": pass ")[0].rstrip(".")
            raise DeconvnetError(f"A snapshot of {self.network} was expected, but {reason}: remove that file.") from error
        if reference is not None and _signature(network) != _signature(reference):
            raise DeconvnetError(f"{file} is a snapshot of another network than the run's last one: remove that file.")
        return network


def open_snapshots(run: Path) -> Snapshots:
    """The snapshots in a run's folder; a finished run's final weights count as the last of them.

    Raises `DeconvnetError` if the folder is no run, or has no snapshot yet.
    """
    file = run / "run.json"
    try:
        record = read_json_object(file)
        if record["format"] != FORMAT:
            raise DeconvnetError(f"{run} is a run of another version of deconvnet: train again.")
        network, last_epoch = str(record["network"]), int(record["recipe"]["epochs"])
    except (FileNotFoundError, NotADirectoryError):
        raise DeconvnetError(f"{run} is no training run: pass the folder that `deconvnet train` has made.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or "it is damaged"
        raise DeconvnetError(f"{file} cannot be read ({reason}): train again.") from None
    files = {int(path.stem.removeprefix("epoch-")): path for path in run.glob("snapshots/epoch-[0-9]*.safetensors")}
    if not files:
        raise DeconvnetError(f"{run} has no snapshot yet: the first is there after epoch 1.")
    weights = RunFolder(run).weights
    if weights.exists():
        files.setdefault(last_epoch, weights)
    return Snapshots(network, dict(sorted(files.items())))


def _signature(network: Network) -> object:
    """What all snapshots of a run have in common: name, sizes of layers, preprocessing."""
    layers = {name: (layer.units, layer.map_size) for name, layer in network.layers.items()}
    preprocessing = network.preprocessing.with_views("following its training")
    mean_and_std = torch.cat([preprocessing.mean.flatten(), preprocessing.std.flatten()]).tolist()
    return network.name, layers, preprocessing.resize, preprocessing.crop, preprocessing.scale, mean_and_std
