"""The result of Fig. 5: how much features and probabilities change when an image is translated, scaled and rotated."""

from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from deconvnet.data import InputSet
from deconvnet.experiments.fig5_invariance.curves import Curves, relative_distances
from deconvnet.experiments.fig5_invariance.plot import invariance_figure
from deconvnet.formatting import printable


@dataclass(frozen=True)
class Invariance:
    """How features and probabilities of images change under transformations."""

    network: str
    """Full name."""
    sha256: str
    """Of the network's weights."""
    layers: tuple[str, str]
    """The first and the last hidden layer."""
    image_set: InputSet
    classes: list[str] | None
    """The class of each image whose probability is measured; None for a trunk."""
    class_given: bool
    """Whether the user chose the class; otherwise it is the network's prediction for the untransformed image."""
    curves: dict[str, Curves]
    """By name of the transformation."""
    shown_as: str = ""
    """How views are shown, in words, unless they are of photos."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the pictures."""
        return {
            "format": 1,
            "network": self.network,
            "sha256": self.sha256,
            "layers": list(self.layers),
            "images": {"digest": self.image_set.digest, "paths": list(self.image_set.paths)},
            "classes": self.classes,
            "class_given": self.class_given,
            "distance": "Euclidean, of all activations of a layer scaled to length 1",
            "vacated": "0 in the network's input: the mean",
            "findings": self.findings,
            "curves": {name: curves.as_json() for name, curves in self.curves.items()},
        }

    @property
    def findings(self) -> list[str]:
        """The paper's claims about Fig. 5 as sentences with numbers, all of them means over the images."""
        sentences = []
        for name, curves in self.curves.items():
            for layer, distances in zip(self.layers, curves.distances, strict=True):
                fractions = relative_distances(curves.transformation, distances)
                sentences.append(
                    f"{name}, {layer}: the smallest step makes {fractions[0]:.0%} of the largest distance, half the way "
                    f"{fractions[1]:.0%}."
                    if fractions
                    else f"{name}, {layer}: nothing changes."
                )
            if curves.probability is not None:
                mean = curves.probability.mean(dim=0)
                untransformed = float(mean[curves.transformation.values.index(curves.transformation.identity)])
                sentences.append(f"{name}: probability of the class {untransformed:.1%}, at worst {float(mean.min()):.1%}.")
        return sentences

    def figures(self) -> dict[str, Figure]:
        return {"invariance": self.figure()}

    def figure(self) -> Figure:
        """Three rows and four columns, as in the paper: transformed images, distances at two layers, probabilities."""
        noun = self.image_set.noun
        image_labels = [printable(self.image_set.caption(index).rpartition("/")[2]) for index in range(len(self.image_set))]
        if self.classes is not None:
            image_labels = [f"{name}: {label}" for name, label in zip(image_labels, self.classes, strict=True)]
        photos = f"{len(self.image_set)} {noun}s, digest {self.image_set.digest[:12]}; nothing is drawn at random."
        shown = [f"{self.shown_as}."] if self.shown_as else []
        return invariance_figure(
            self.network,
            self.layers,
            image_labels,
            self.curves.values(),
            f"probability of the {'' if self.class_given else 'predicted '}class",
            [*self.findings, photos, *shown],
        )
