"""How fast the live page's server answers: python benchmarks/explorer.py [--network NETWORK …]

Starts `deconvnet explore` and, as soon as it listens and while it still warms up, uploads an image of 2,000×1,500 pixels and
requests what every browser requests first: classes and strongest units, and one projection of the last convolutional layer.
Then the same with another image, and the time of a whole occlusion map (900 positions on a view of 224×224).
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

from deconvnet.demo_images import demo_image

RESULTS = Path(__file__).parent / "results"


def demo_jpeg(name: str) -> bytes:
    """One of scikit-image's photos as a JPEG, as large as a phone takes them."""
    encoded = BytesIO()
    demo_image(name).resize((2000, 1500)).save(encoded, "jpeg", quality=90)
    return encoded.getvalue()


def time_first_requests(client: httpx.Client, key: str, content: bytes) -> dict[str, float]:
    """Seconds from the start of the upload to each response."""
    start = time.perf_counter()
    uploaded = client.post("/api/photos", content=content, headers={"Content-Type": "application/octet-stream"})
    address = f"/api/photos/{uploaded.raise_for_status().json()['photo']}/{key}"
    seconds = {"uploaded": time.perf_counter() - start}
    layers = client.get(address).raise_for_status().json()["layers"]
    seconds["classes and units"] = time.perf_counter() - start
    last = [layer for layer in layers if layer["name"].startswith("conv")][-1]
    client.get(f"{address}/layers/{last['name']}/{last['units'][0]['unit']}/projection.png").raise_for_status()
    seconds["projection"] = time.perf_counter() - start
    return seconds


def time_occlusion_map(client: httpx.Client, key: str, content: bytes) -> float:
    """Seconds for an occlusion map, without the upload."""
    uploaded = client.post("/api/photos", content=content, headers={"Content-Type": "application/octet-stream"})
    start = time.perf_counter()
    client.post(f"/api/photos/{uploaded.json()['photo']}/{key}/occlusion", json={}).raise_for_status()
    return time.perf_counter() - start


def main(
    network: Annotated[list[str] | None, typer.Option(help="Networks, each in a separate server.")] = None,
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
                for state, content in (("cold", demo_jpeg("astronaut")), ("warm", demo_jpeg("coffee"))):
                    timings = time_first_requests(client, key, content)
                    rounded = {response: round(seconds, 2) for response, seconds in timings.items()}
                    rows.append({"network": name, "": state, "listens after": round(listening, 1), **rounded})
                rows[-1]["occlusion map"] = round(time_occlusion_map(client, key, demo_jpeg("coffee")), 1)
            server.send_signal(signal.SIGINT)
    table = Table(*rows[-1])
    for row in rows:
        table.add_row(*(str(row.get(column, "")) for column in rows[-1]))
    Console().print("Seconds since the photo was sent (since the start: listens after)", table)
    (RESULTS / "explorer.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
