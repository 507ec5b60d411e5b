"""The trained networks that come with the package, so that everything can be tried offline.

Each lies in a folder `bundled/NAME-KEYWORD` with the recipe, the log and the errors of its training (docs/imagenette.md).
"""

from importlib.resources import files
from pathlib import Path

#: The weights that each of these networks comes with.
BUNDLED = {"alexnet2012": "imagenette", "zfnet": "imagenette"}


def bundled_weights(name: str, keyword: str) -> Path | None:
    """The file of weights that come with the package, or None if there are none of that name."""
    if BUNDLED.get(name) != keyword:
        return None
    return Path(str(files("deconvnet.models") / "bundled" / f"{name}-{keyword}" / "weights.safetensors"))
