"""What a report is of: what two calls must have in common to work on one report, and what its page says of it."""

import hashlib
import json
from typing import Any

from deconvnet.experiments.fig4_evolution.snapshots import open_snapshots
from deconvnet.models import Network
from deconvnet.models.weights_metadata import preprocessing_metadata
from deconvnet.report.commands import Materials
from deconvnet.training.data import open_data


def key(materials: Materials) -> dict[str, Any]:
    """Told apart by contents, not by paths: weights, classes, preprocessing, photos, landmarks, recipe, trainings, seed."""
    landmarks, data = materials.landmarks, materials.data
    return {
        "networks": {role: _identity(network, bool(materials.train)) for role, network in materials.networks.items()},
        "photos": materials.image_set.digest,
        "runs": [_digest([str(path.name) for path in open_snapshots(run).files.values()]) for run in materials.runs],
        "landmarks": landmarks and hashlib.sha256(landmarks.read_bytes()).hexdigest(),
        "recipes": materials.recipe and materials.recipe.entries(),
        "photos to train on": open_data(data).train.digest if data and materials.train else None,
        "seeds": materials.seed,
        "kind (--quick)": materials.quick,
    }


def about(materials: Materials) -> dict[str, Any]:
    """What the page says of networks and photos."""
    return {
        "networks": {
            role: {
                "full_name": f"{network.name}, trained for this report" if materials.train else network.full_name,
                "digest": "" if materials.train else network.digest,
                "layers": {
                    name: [layer.units, *layer.map_size] if layer.convolutional else [layer.units]
                    for name, layer in network.layers.items()
                },
            }
            for role, network in materials.networks.items()
        },
        "photos": {
            "folder": str(materials.folder),
            "digest": materials.image_set.digest,
            "photos": len(materials.image_set),
            "classes": len(materials.image_set.classes),
        },
        "seed": materials.seed,
        "quick": materials.quick,
    }


def _identity(network: Network, untrained: bool) -> str:
    entries = preprocessing_metadata(network.preprocessing, "mean.npy")
    return _digest([network.name, None if untrained else network.digest, network.classes, entries])


def _digest(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values, default=str).encode()).hexdigest()
