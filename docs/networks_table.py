"""The table of published networks that `deconvnet networks` shows at once, because to trace them takes seconds.

python docs/networks_table.py > src/deconvnet/cli/networks.json        writes it anew
"""

import json

from deconvnet.models import ARCHITECTURES, describe_network


def table() -> str:
    """The networks as published, by name, as JSON."""
    return json.dumps({name: describe_network(name) for name in ARCHITECTURES}, indent=1)


if __name__ == "__main__":
    print(table())
