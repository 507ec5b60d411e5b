"""How fast the live page's server answers: python benchmarks/explorer.py [--network NETWORK …]

Starts `deconvnet explore`, and as soon as it listens, while it still warms up, sends a photo of 2,000×1,500 pixels and asks
what every browser asks first: classes and the most driven units, and one projection of the last convolutional layer. Then
once more, with another photo; and the time of a whole occlusion map (900 positions on a view of 224).
"""

import json
import re
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.table import Table

from deconvnet.demo import demo_photo

RESULTS = Path(__file__).parent / "results"


def photo(name: str) -> bytes:
    """A photo of scikit-image's as a JPEG as large as a telephone takes."""
    encoded = BytesIO()
    demo_photo(name).resize((2000, 1500)).save(encoded, "jpeg", quality=90)
    return encoded.getvalue()


def ask(client: httpx.Client, key: str, content: bytes) -> dict[str, float]:
    """Seconds from the upload to each answer."""
    start = time.perf_counter()
    sent = client.post("/api/photos", content=content, headers={"Content-Type": "application/octet-stream"})
    address = f"/api/photos/{sent.raise_for_status().json()['photo']}/{key}"
    seconds = {"uploaded": time.perf_counter() - start}
    layers = client.get(address).raise_for_status().json()["layers"]
    seconds["classes and units"] = time.perf_counter() - start
    last = [layer for layer in layers if layer["name"].startswith("conv")][-1]
    client.get(f"{address}/layers/{last['name']}/{last['units'][0]['unit']}/projection.png").raise_for_status()
    seconds["projection"] = time.perf_counter() - start
    return seconds


def sweep(client: httpx.Client, key: str, content: bytes) -> float:
    """Seconds for an occlusion map."""
    sent = client.post("/api/photos", content=content, headers={"Content-Type": "application/octet-stream"})
    start = time.perf_counter()
    client.post(f"/api/photos/{sent.json()['photo']}/{key}/occlusion", json={}).raise_for_status()
    return time.perf_counter() - start


def main(
    network: Annotated[list[str] | None, typer.Option(help="Networks, each in a server of its own.")] = None,
) -> None:
    """Measure, print a table, write results/explorer.json."""
    rows: list[dict[str, Any]] = []
    for name in network or ["alexnet2012", "zfnet"]:
        start = time.perf_counter()
        command = [sys.executable, "-m", "deconvnet", "explore", "--network", name, "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            address = re.search(r"http://\S+", server.stdout.readline())
            assert address is not None
            listening = time.perf_counter() - start
            with httpx.Client(base_url=address[0], timeout=120) as client:
                key = client.get("/api/networks").json()[0]["key"]
                for when, picture in (("cold", photo("astronaut")), ("warm", photo("coffee"))):
                    found = {what: round(seconds, 2) for what, seconds in ask(client, key, picture).items()}
                    rows.append({"network": name, "": when, "listens after": round(listening, 1), **found})
                rows[-1]["occlusion map"] = round(sweep(client, key, photo("coffee")), 1)
            server.send_signal(signal.SIGINT)
    table = Table(*rows[-1])
    for row in rows:
        table.add_row(*(str(row.get(column, "")) for column in rows[-1]))
    Console().print("Seconds since the photo was sent (since the start: listens after)", table)
    (RESULTS / "explorer.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
