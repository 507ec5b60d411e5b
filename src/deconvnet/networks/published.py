"""Weights that others published, recognised by name and digest, with what their files do not say of themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch

from deconvnet.errors import DeconvnetError
from deconvnet.networks.weights import file_digest


@dataclass(frozen=True)
class Published:
    """One published file."""

    network: str
    file: str
    sha256: str
    """The digest, or the first digits of it that the publisher states."""
    description: Mapping[str, Any]
    """As `description.describe` reads it."""
    keyword: str = ""
    """What it is called in NETWORK:KEYWORD, if it can be downloaded."""
    url: str = ""


PUBLISHED = (
    Published(
        network="alexnet",
        keyword="imagenet1k",
        file="alexnet-owt-7be5be79.pth",
        sha256="7be5be79",
        url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        description={
            "weights": "torchvision, ImageNet-1k",
            "resize": 256,
            "crop": 224,
            "channels": "RGB",
            "scale": 1.0,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "classes": "imagenet1k",
        },
    ),
    Published(
        network="alexnet2012",
        file="bvlc_alexnet_trunk.safetensors",
        sha256="de348d36b12345222c26cfa4fcf9c41ca408dc945fcb7fb8e43d013b2b58b1cb",
        description={
            "weights": "BVLC AlexNet of the Caffe model zoo, ImageNet, trunk only",
            "resize": 256,
            "crop": 227,
            "channels": "BGR",
            "scale": 255.0,
            "mean": [104, 117, 123],
            "options": {"contrast": {"n": 5, "alpha": 1e-4, "beta": 0.75, "k": 1.0}},
        },
    ),
)


def recognise(file: Path, rows: Sequence[Published]) -> Published | None:
    """The row for a file among `rows`: by its digest, whatever it is called. Raises `DeconvnetError` if it has a published
    file's name and another's contents.
    """
    digest = file_digest(file)
    for published in rows:
        if digest.startswith(published.sha256):
            return published
        if file.name == published.file:
            raise DeconvnetError(
                f"{file} does not have the checksum that its publisher states (SHA-256 {digest[:8]}…, not "
                f"{published.sha256[:8]}…): it is damaged or another file, so delete it and fetch it again, or rename it "
                "and describe it with --preprocessing FILE.toml."
            )
    return None


def download(published: Published) -> Path:
    """The file in torch.hub's cache, fetched there first if need be; its digest is checked by `recognise` at every use."""
    target = Path(torch.hub.get_dir()) / "checkpoints" / published.file
    if not target.exists():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(published.url, str(target), hash_prefix=published.sha256)
        except RuntimeError as error:  # what torch.hub raises for a wrong digest; nothing was kept
            raise DeconvnetError(f"{published.url} did not arrive as its publisher made it: {error}.") from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise DeconvnetError(
                f"{published.url} could not be downloaded ({reason}): fetch it on a machine with a network connection and "
                f"pass {published.network}:PATH."
            ) from None
    return target
