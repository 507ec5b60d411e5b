"""Published weights: identified by their digest, downloaded if asked for, with the metadata that their files lack."""

import shutil
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from pathlib import Path
from ssl import SSLError
from typing import Any
from urllib.error import URLError

import torch

from deconvnet.errors import DeconvnetError
from deconvnet.models.weights import file_digest
from deconvnet.storage import atomic_path

#: Bytes that an archive may unpack to; the largest of these files has 0.43 GB.
_MAX_UNPACKED = 2**30


@dataclass(frozen=True)
class PretrainedFile:
    """One published file."""

    network: str
    file: str
    sha256: str
    """The digest, or as many of its first digits as the publisher states; empty if the publisher states `sha1`."""
    metadata: Mapping[str, Any]
    """Entries for `weights_metadata.parse_metadata`."""
    keyword: str = ""
    """Its name in NETWORK:KEYWORD, if it can be downloaded."""
    url: str = ""
    """Address of the file, or of a `.zip` that holds it."""
    sha1: str = ""
    """The digest, where the publisher states SHA-1."""

    def digest_mismatch(self, digest_by: Callable[[str], str]) -> str:
        """How a file's digest differs from the one stated; empty if it does not. `digest_by` computes it by an algorithm."""
        algorithm, stated = ("SHA-256", self.sha256) if self.sha256 else ("SHA-1", self.sha1)
        digest = digest_by(algorithm.replace("-", "").lower())
        return "" if digest.startswith(stated) else f"{algorithm} {digest[:8]}…, not {stated[:8]}…"


_TORCHVISION_224 = {
    "resize": 256,
    "crop": 224,
    "channels": "RGB",
    "scale": 1.0,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "classes": "imagenet1k",
}

_PYTORCHCV = {**_TORCHVISION_224, "weights": "pytorchcv, ImageNet-1k", "options": {"order": "norm-pool"}}

_BVLC_TRUNK = {
    "weights": "BVLC AlexNet of the Caffe model zoo, ImageNet, trunk only",
    "resize": 256,
    "crop": 227,
    "channels": "BGR",
    "scale": 255.0,
    "mean": [104, 117, 123],
    "options": {"contrast": {"n": 5, "alpha": 1e-4, "beta": 0.75, "k": 1.0}},
}

# The zoo's files declare 224×224, where their poolings leave out the last row and column and the maps are 54, 26 and 12.
# The weights were trained on 227×227, where all windows are those of the network.
_BVLC_ALEXNET = {**_BVLC_TRUNK, "weights": "BVLC AlexNet of the Caffe model zoo, ImageNet", "classes": "imagenet1k"}

# Facebook's network for Caffe2. Its authors do not state the preprocessing; with these channels, scale and mean, on images
# squeezed to 224×224, the zoo's page reports a top-1 accuracy of 55.97 % on ImageNet's validation set.
_ZFNET512 = {
    "weights": "ZFNet-512 of the ONNX model zoo, ImageNet-1k",
    "resize": 256,
    "crop": 224,
    "channels": "BGR",
    "scale": 255.0,
    "mean": [103.939, 116.779, 123.68],
    "classes": "imagenet1k",
    "options": {
        "padding": 0,
        "pool5": 2,
        "fc7": 1024,
        "order": "norm-pool",
        "contrast": {"n": 5, "alpha": 5e-4, "beta": 0.75, "k": 2.0},
    },
}

PRETRAINED = (
    PretrainedFile(
        network="alexnet",
        keyword="imagenet1k",
        file="alexnet-owt-7be5be79.pth",
        sha256="7be5be79",
        url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        metadata={**_TORCHVISION_224, "weights": "torchvision, ImageNet-1k"},
    ),
    PretrainedFile(
        network="alexnet2012",
        file="bvlc_alexnet_trunk.safetensors",
        sha256="de348d36b12345222c26cfa4fcf9c41ca408dc945fcb7fb8e43d013b2b58b1cb",
        metadata=_BVLC_TRUNK,
    ),
    PretrainedFile(
        network="zfnet",
        keyword="pytorchcv",
        file="zfnet-1727-d010ddca.pth",
        sha256="",
        sha1="d010ddca1eb32a50a8cceb475c792f53e769b631",
        url="https://github.com/osmr/imgclsmob/releases/download/v0.0.395/zfnet-1727-d010ddca.pth.zip",
        metadata=_PYTORCHCV,
    ),
    PretrainedFile(
        network="zfnet-wide",
        keyword="pytorchcv",
        file="zfnetb-1490-f6bec24e.pth",
        sha256="",
        sha1="f6bec24eba037c8e4956704ed5bafaed29966601",
        url="https://github.com/osmr/imgclsmob/releases/download/v0.0.400/zfnetb-1490-f6bec24e.pth.zip",
        metadata=_PYTORCHCV,
    ),
    # The zoo's repository states the digests in place of the files (Git LFS).
    *(
        PretrainedFile("alexnet2012", f"bvlcalexnet-{opset}.onnx", digest, _BVLC_ALEXNET)
        for opset, digest in {
            6: "f1ae53b93d83dd74731c84337ae64035288ce336794a46e2b17b56e7566feaab",
            8: "9a4dc22fd706a19462aaec3b08e027e0ef89daf63d123824f20b59b6de9a727b",
            9: "ef3c82dad5c512f969dbf701fe35c0b3feb1585687d541f765eb68730c0a8af7",
            12: "6b0da9510f27f234ee96a85dc3809dd210150fdefad87f6850f9788513216945",
        }.items()
    ),
    *(
        PretrainedFile("zfnet512", f"zfnet512-{opset}.onnx", digest, _ZFNET512)
        for opset, digest in {
            6: "80158bfe8c1191263d003bfaa62694e7cf389b4a472456e389ceadbc4dab684d",
            8: "2b70b4d43c6e1b8a19b93bb465cb40c2f4f656abac13aebd1b3105e9c904b486",
            12: "c975ca6a24c0a2e1584c6f82667e0ac9c06084fc7769d267f71b4a154d1f1c72",
        }.items()
    ),
)


def identify(file: Path, candidates: Sequence[PretrainedFile]) -> PretrainedFile | None:
    """The published file among `candidates` that `file` is, by its digest; its name does not matter.

    Raises `DeconvnetError` if it has a published file's name and other contents.
    """
    digest_by = cache(lambda algorithm: file_digest(file, algorithm))
    for pretrained in candidates:
        mismatch = pretrained.digest_mismatch(digest_by)
        if not mismatch:
            return pretrained
        if file.name == pretrained.file:
            raise DeconvnetError(
                f"{file} does not have the checksum that its publisher states ({mismatch}): it is damaged or another "
                "file, so delete it and fetch it again, or rename it and describe it with --preprocessing FILE.toml."
            )
    return None


def cache_path(pretrained: PretrainedFile) -> Path:
    """Where the file is in torch.hub's cache, if it has been downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints" / pretrained.file


def download(pretrained: PretrainedFile) -> Path:
    """The file in torch.hub's cache, downloaded first if need be; `identify` checks its digest again at every use."""
    target = cache_path(pretrained)
    if target.exists():
        return target
    with atomic_path(target) as unfinished:
        try:
            torch.hub.download_url_to_file(pretrained.url, str(unfinished))
        except (URLError, HTTPException, ConnectionError, TimeoutError, SSLError) as error:  # other OSErrors are the disk's
            reason = getattr(error, "reason", error)
            raise DeconvnetError(
                f"{pretrained.url} could not be downloaded ({reason}): fetch it on a machine with a network connection and "
                f"pass {pretrained.network}:PATH."
            ) from None
        if pretrained.url.endswith(".zip"):
            _unpack(unfinished, pretrained)
        mismatch = pretrained.digest_mismatch(lambda algorithm: file_digest(unfinished, algorithm))
        if mismatch:
            raise DeconvnetError(f"{pretrained.url} did not arrive as its publisher made it ({mismatch}): try again later.")
    return target


def _unpack(archive: Path, pretrained: PretrainedFile) -> None:
    """Replace the archive by the one file in it that is wanted."""
    unpacked = archive.with_name(f"{archive.name}.unpacked")
    try:
        with zipfile.ZipFile(archive) as members:
            if members.getinfo(pretrained.file).file_size > _MAX_UNPACKED:
                raise zipfile.BadZipFile("it unpacks to more than any of these weights take")
            with members.open(pretrained.file) as source, unpacked.open("wb") as sink:
                shutil.copyfileobj(source, sink)
        unpacked.replace(archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError) as error:
        raise DeconvnetError(
            f"{pretrained.url} did not arrive as its publisher made it ({error}): try again later."
        ) from None
    finally:
        unpacked.unlink(missing_ok=True)
