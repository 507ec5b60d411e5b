"""Run deconvnet as in an installation with some extras only: `python extras_only.py EXTRAS COMMAND…`, EXTRAS like a,b or "".

Everything that such an installation would not have cannot be imported: all distributions that are here, but not among the
requirements of deconvnet with these extras, nor among the requirements of those, and so on.
"""

import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def installed_with(name: str, extras: frozenset[str], found: set[tuple[str, frozenset[str]]]) -> None:
    """Add a distribution and all that it requires to `found`, with the extras that are asked for."""
    if (name, extras) in found:
        return
    found.add((name, extras))
    try:
        requirements = requires(name) or []
    except PackageNotFoundError:  # for another platform or Python
        return
    for requirement in map(Requirement, requirements):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            installed_with(canonicalize_name(requirement.name), frozenset(requirement.extras), found)


def main() -> None:
    extras, *command = sys.argv[1:]
    found: set[tuple[str, frozenset[str]]] = set()
    installed_with("deconvnet", frozenset(filter(None, extras.split(","))), found)
    names = {name for name, _ in found}
    blocked = {
        module
        for module, distributions in packages_distributions().items()
        if not any(canonicalize_name(distribution) in names for distribution in distributions)
    }
    assert {"pytest", "sphinx"} <= blocked, blocked
    sys.modules.update(dict.fromkeys(blocked))  # importing what is None there fails as if it were not installed
    from deconvnet.cli import main as run_command

    sys.argv = ["deconvnet", *command]
    run_command()


if __name__ == "__main__":
    main()
