"""Optional dependencies: which extra installs them (`deconvnet[explore]` …), and what to say if one is missing."""

from collections.abc import Mapping
from importlib.util import find_spec

from deconvnet.errors import DeconvnetError

#: What has to be importable, by extra; pyproject.toml says what is installed.
_MODULES: Mapping[str, tuple[str, ...]] = {
    "explore": ("fastapi", "uvicorn"),
    "onnx": ("onnx",),
    "report": ("jinja2",),  # which torch requires too, today
    "timm": ("timm",),
    "train": ("tensorboard",),
}


def _is_installed(module: str) -> bool:
    spec = find_spec(module)
    return spec is not None and spec.origin is not None  # which a mere folder of that name in the current one has not


def missing_extra(extra: str) -> str:
    """What is not installed of an extra and how to install it, in one sentence; "" if all of it is installed."""
    missing = [module for module in _MODULES[extra] if not _is_installed(module)]
    verb = "is" if len(missing) == 1 else "are"
    return f'{" and ".join(missing)} {verb} not installed: pip install "deconvnet[{extra}]"' if missing else ""


def require_extra(extra: str) -> None:
    """Raise `DeconvnetError`, which says what to install, unless all packages of an extra are installed."""
    if sentence := missing_extra(extra):
        raise DeconvnetError(f"{sentence}.")
