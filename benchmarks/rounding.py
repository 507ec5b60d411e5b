"""How a device rounds: errors of a network's activations against float64, and what a batch does to a photo's activations.

    python benchmarks/rounding.py [--networks alexnet2012,zfnet] [--device cuda]

By layer and relative to the layer's largest activation, for one image of noise: the error on this device and on the CPU
(`deconvnet.models.rounding_error`, float32 without TF32), the difference between the two, and the largest difference between
the image alone and the same image in each row of a batch. Where the latter is 0, the device's values do not depend on the
batch.
"""

import json
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from side_by_side import RESULTS, Device, Out, machine
from torch import Tensor

from deconvnet.models import Network, load
from deconvnet.models.rounding_error import probe_image, rounding_errors


def activations(network: Network, batch: int) -> dict[str, Tensor]:
    """By layer those of the probe image in a batch of so many copies of it, (batch, units, rows, columns) on the CPU."""
    found: dict[str, Tensor] = {}

    def keep(name: str, maps: Tensor) -> None:
        found[name] = maps.cpu().clone()

    with torch.inference_mode():
        network.capture(probe_image(network).expand(batch, -1, -1, -1), network.layers, keep)
    return found


def measure(name: str, device: str, batch: int) -> dict[str, dict[str, float]]:
    """The numbers of one network by layer."""
    on_cpu, network = load(name), load(name).to(device)
    errors, cpu_errors = rounding_errors(network), rounding_errors(on_cpu)
    cpu_maps, alone, together = activations(on_cpu, 1), activations(network, 1), activations(network, batch)
    rows = {}
    for layer in network.layers:
        largest = float(cpu_maps[layer].amax()) or 1.0
        rows[layer] = {
            "error": errors[layer],
            "error on the CPU": cpu_errors[layer],
            "device and CPU": float((alone[layer] - cpu_maps[layer]).abs().amax()) / largest,
            f"alone and in a batch of {batch}": float((together[layer] - alone[layer]).abs().amax()) / largest,
        }
    return rows


def main(
    networks: Annotated[str, typer.Option(help="NETWORK, or several with commas between them.")] = "alexnet2012,zfnet",
    batch: Annotated[int, typer.Option(min=1, help="Size of the batch.")] = 32,
    device: Device = "cpu",
    out: Out = None,
) -> None:
    found: dict[str, Any] = {name: measure(name, device, batch) for name in networks.split(",")}
    for name, rows in found.items():
        table = Table("layer", *next(iter(rows.values())), title=name)
        for layer, values in rows.items():
            table.add_row(layer, *(f"{value:.1e}" for value in values.values()))
        Console().print(table)
    out = out or RESULTS / "rounding.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    result = {"networks": found, "machine": machine(torch.device(device))}
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
