"""Visualise what each unit of a convolutional network responds to.

An implementation of Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks" (ECCV 2014), on PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deconvnet.errors import DeconvnetError, DeconvnetWarning, UsageError
from deconvnet.version import find_version

__version__ = find_version()

__all__ = [
    "Atlas",
    "DeconvnetError",
    "DeconvnetWarning",
    "Network",
    "Preprocessing",
    "UsageError",
    "as_preprocessing",
    "check",
    "load",
    "mine",
    "per_channel",
    "picture",
    "project",
    "torchvision_preprocessing",
    "transform_preprocessing",
]

if TYPE_CHECKING:
    from deconvnet.atlas import Atlas
    from deconvnet.checking import check
    from deconvnet.data import (
        Preprocessing,
        as_preprocessing,
        per_channel,
        torchvision_preprocessing,
        transform_preprocessing,
    )
    from deconvnet.mining import mine
    from deconvnet.models import Network, load
    from deconvnet.projection import picture, project
else:
    # The same names, imported at their first use: importing torch takes seconds, too long for `deconvnet --help`.
    _PACKAGES = {
        "Atlas": "atlas",
        "Network": "models",
        "Preprocessing": "data",
        "as_preprocessing": "data",
        "check": "checking",
        "load": "models",
        "mine": "mining",
        "per_channel": "data",
        "picture": "projection",
        "project": "projection",
        "torchvision_preprocessing": "data",
        "transform_preprocessing": "data",
    }

    def __getattr__(name: str) -> Any:
        if name not in _PACKAGES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value = getattr(import_module(f"{__name__}.{_PACKAGES[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
