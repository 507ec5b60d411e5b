"""Trained networks inside the package, so that everything can be tried offline.

Each has a folder `bundled/NAME-KEYWORD` with its weights and the recipe, the log and the errors of its training
(docs/imagenette.md).
"""

from importlib.resources import files
from pathlib import Path

#: Keyword of the bundled weights, by name of the network.
BUNDLED = {"alexnet2012": "imagenette", "zfnet": "imagenette"}


def bundled_weights(name: str, keyword: str) -> Path | None:
    """The weights file of NAME:KEYWORD inside the package, or None if there is none."""
    if BUNDLED.get(name) != keyword:
        return None
    return Path(str(files("deconvnet.models") / "bundled" / f"{name}-{keyword}" / "weights.safetensors"))
