"""The version of this package, installed or not."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def find_version() -> str:
    """The version that is installed; of a source checkout that is not installed, the one in its pyproject.toml."""
    try:
        return version("deconvnet")
    except PackageNotFoundError:
        import tomllib  # an installation does not need it

        project = Path(__file__).parents[2] / "pyproject.toml"
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
