"""A real browser, and atlases to walk about in. Where there is no browser these tests say so and are skipped."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright
from torch import nn

from deconvnet import Atlas
from deconvnet.data import torchvision_preprocessing
from deconvnet.explorer.app_state import Explorer
from deconvnet.explorer.served_networks import find_models
from deconvnet.models import Network
from helpers.exploring import RunningServer
from helpers.reporting import run_command_line, write_report_inputs

#: WordNet ids of a tench, a church and a golf ball.
CLASSES = ("n01440764", "n03028079", "n03445777")


@pytest.fixture(scope="module")  # while it runs, no other test of this thread could have an event loop
def chromium() -> Iterator[Browser]:
    """Headless Chromium; skips the test where there is none."""
    program = os.environ.get("DECONVNET_BROWSER") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if not program:
        pytest.skip("there is no Chromium: install Debian's chromium, or name one in DECONVNET_BROWSER")
    with sync_playwright() as playwright:
        # Chromium cannot set up its own sandbox as root, in a container.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


class RequestLog:
    """Console errors and requests of all pages in a context: there must be no errors, and no requests to other origins."""

    def __init__(self, context: BrowserContext) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        context.on("console", lambda message: self._complain(message.type, message.text))
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("request", lambda request: self.requests.append(request.url))
        context.on("requestfailed", self._fail)

    def _fail(self, request: Request) -> None:
        # Chromium says that a stream which was read to its end was aborted; and some are cancelled on purpose.
        if not (request.url.startswith(("http:", "blob:")) and "ERR_ABORTED" in (request.failure or "")):
            self.complaints.append(f"{request.url}: {request.failure}")

    def _complain(self, level: str, text: str) -> None:
        if level in ("error", "warning"):
            self.complaints.append(text)

    def check(self, origin: str) -> None:
        """No complaint, and no request that leaves `origin`, such as file:// or http://127.0.0.1:8000."""
        assert self.complaints == []
        assert self.requests
        for url in self.requests:
            parts = urlsplit(url)
            assert parts.scheme in ("data", "blob") or f"{parts.scheme}://{parts.netloc}" == origin, url


def small_network(name: str, seed: int, convolutions: int = 2) -> Network:
    """A few layers with random weights on 32×32 pixels; unit 4 of conv1 is dead."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Conv2d(3, 5, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    for _ in range(convolutions - 1):
        layers += [nn.Conv2d(5, 5, 3, padding=1), nn.ReLU()]
    module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(5 * 64, 3)).eval()
    with torch.no_grad():
        module[0].weight[4] = 0
        module[0].bias[4] = -1
    names = [f"conv{number + 1}" for number in range(convolutions)]
    classes = [(id, f"class {number}, of {id}") for number, id in enumerate(CLASSES)]
    return Network(
        module, torchvision_preprocessing(32, 32), name=name, weights="random", layer_names=names, classes=classes
    )


NETWORKS = {"one": small_network("one", 1, 2), "other": small_network("other", 2, 3)}


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four photos of three classes, with a name that would be markup and one that is not ASCII."""
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number in range(24):
        label = folder / CLASSES[number % 3]
        label.mkdir(exist_ok=True)
        coarse = random.integers(0, 256, (6, 6, 3), dtype=np.uint8) // (1 + number % 3)
        name = {0: "<img src=x onerror=alert(1)>", 1: "église"}.get(number, f"{number:02d}")
        Image.fromarray(coarse).resize((40, 40), Image.Resampling.BICUBIC).save(label / f"{name}.png")
    return folder


@pytest.fixture(scope="session")
def atlases(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """A folder with two atlases over the same photos: `one`, and `other`, which has a third layer."""
    folder = tmp_path_factory.mktemp("atlases")
    for name, network in NETWORKS.items():
        Atlas.build(network, photos, folder / name)
    return folder


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a few sections."""
    folder = tmp_path_factory.mktemp("inputs")
    write_report_inputs(folder)
    file, out = folder / "networks.py", folder / "report"
    words = ("--alexnet", f"{file}:one", "--zfnet", f"{file}:other", "--only", "look,fig-3,fig-5,table-3")
    assert run_command_line("reproduce", folder / "photos", *words, "--out", out) == 0
    return out


@pytest.fixture(scope="session")
def server(atlases: Path) -> Iterator[str]:
    """The address of `deconvnet explore one other`."""
    explorer = Explorer(find_models([atlases / name for name in NETWORKS], list(NETWORKS.values())))
    running = RunningServer(explorer)
    yield running.address
    running.stop()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A fresh window of a desktop's size, in light colours."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, color_scheme="light", reduced_motion="reduce")
    context.set_default_timeout(10_000)
    yield context
    context.close()


@pytest.fixture
def watched(context: BrowserContext) -> RequestLog:
    return RequestLog(context)


@pytest.fixture
def page(context: BrowserContext, watched: RequestLog) -> Page:
    return context.new_page()


@dataclass(frozen=True)
class Site:
    """Where a browser finds the atlases of the fixture."""

    address: str
    """Of the folder that holds both, with a slash at the end."""
    origin: str


# The live page's tests walk through a served atlas too, so the second walk of everything may be slow.
@pytest.fixture(params=["from disk", pytest.param("served", marks=pytest.mark.slow)])
def site(request: pytest.FixtureRequest, atlases: Path, watched: RequestLog) -> Iterator[Site]:
    """Checks at the end that no page complained or asked another place for anything."""
    if request.param == "from disk":
        site = Site(f"{atlases.as_uri()}/", "file://")
    else:
        server = request.getfixturevalue("server")
        site = Site(f"{server}/atlas/", server)
    yield site
    watched.check(site.origin)
