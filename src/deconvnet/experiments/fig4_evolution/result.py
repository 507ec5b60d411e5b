"""The result of Fig. 4: how a network's units changed while it was trained."""

from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from deconvnet.data import InputSet
from deconvnet.experiments.fig4_evolution.convergence import CONVERGED_SIMILARITY, convergence_epoch
from deconvnet.experiments.fig4_evolution.layer_result import LayerEvolution
from deconvnet.experiments.fig4_evolution.plot import evolution_figure


@dataclass(frozen=True)
class Evolution:
    """How the units of a network's convolutional layers changed while it was trained."""

    network: str
    """Full name."""
    epochs: list[int]
    """Of the snapshots, ascending."""
    layers: dict[str, LayerEvolution]
    image_set: InputSet
    read_count: int
    """Number of images that could be read."""
    compared_count: int
    """Number of images on which the snapshots were compared."""
    seed: int

    @property
    def convergence_epochs(self) -> dict[str, int | None]:
        """The epoch at which each layer converged, see `convergence_epoch`; None if not before the last snapshot."""
        return {name: convergence_epoch(self.epochs, layer.similarities) for name, layer in self.layers.items()}

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the pictures."""
        return {
            "format": 1,
            "network": self.network,
            "epochs": self.epochs,
            "settled": self.convergence_epochs,
            "threshold": CONVERGED_SIMILARITY,
            "images": {"digest": self.image_set.digest, "found": len(self.image_set), "read": self.read_count},
            "compared": self.compared_count,
            "seed": self.seed,
            "layers": {name: layer.as_json() for name, layer in self.layers.items()},
        }

    def figures(self) -> dict[str, Figure]:
        return {"evolution": self.figure()}

    def figure(self) -> Figure:
        """A block for each layer, as in the paper: a row for each unit, a column for each epoch; and a plot of similarities.

        A row has one grey scale over all epochs, symmetric about zero: the 99.5th percentile of its absolute values is black
        or white. So a unit with weak activations at first is nearly flat there, and rows cannot be compared with each other.
        """
        return evolution_figure(
            self.network,
            self.epochs,
            self.layers,
            self.convergence_epochs,
            self.read_count,
            self.compared_count,
            self.seed,
        )
