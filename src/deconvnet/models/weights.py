"""Reading, checking and saving files of weights.

A weights file of this project is a safetensors file whose metadata has one entry, `deconvnet`: JSON with the network, its
options and the preprocessing (docs/file-formats.md). Metadata of other files is in a row of `pretrained.py` or in a TOML
file. Nothing is unpickled but tensors and plain values.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.models.alexnet import AlexNet2012
from deconvnet.models.network import Network
from deconvnet.models.pytorchcv_tensor_names import rename_pytorchcv_tensors
from deconvnet.models.weights_metadata import WeightsMetadata, parse_metadata, preprocessing_metadata
from deconvnet.models.zfnet import ZFNet
from deconvnet.storage import atomic_path

StateDict = dict[str, Tensor]

_CHECKPOINT_SUFFIXES = {".pt", ".pth", ".ckpt", ".tar", ".bin"}

#: Suffixes of all files of weights that can be read.
WEIGHTS_SUFFIXES = {".safetensors", ".onnx", *_CHECKPOINT_SUFFIXES}

_FORMAT = 1
#: Name of the tensor that holds a mean image.
_MEAN_IMAGE = "preprocessing.mean"


def read_weights(file: Path) -> tuple[StateDict, WeightsMetadata | None]:
    """Read a `.safetensors` file or a PyTorch checkpoint: its tensors, and its metadata if it was written by `save_weights`.

    Raises `DeconvnetError` for a file of another type, a damaged one, and a pickle that holds anything but tensors.
    """
    suffix = file.suffix.lower()
    if suffix == ".safetensors":
        return _read_safetensors(file)
    if suffix in _CHECKPOINT_SUFFIXES:
        return _read_checkpoint(file), None
    suffixes = ", ".join([".safetensors", *sorted(_CHECKPOINT_SUFFIXES)])
    raise DeconvnetError(
        f"{file} is not a kind of weights file that can be read: it takes {suffixes}, or .onnx for alexnet2012 and the "
        "ZFNets."
    )


def _read_safetensors(file: Path) -> tuple[StateDict, WeightsMetadata | None]:
    try:
        with safe_open(file, framework="pt") as tensors:
            metadata = tensors.metadata() or {}
            state = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118 (it is no dictionary)
    except (SafetensorError, OSError) as error:
        raise DeconvnetError(f"{file} is not a whole safetensors file: {error}.") from None
    if "deconvnet" not in metadata:
        return state, None
    try:
        entries = dict(json.loads(metadata["deconvnet"]))
    except (ValueError, TypeError):
        raise DeconvnetError(f"The description inside {file} is not JSON.") from None
    if entries.pop("format", None) != _FORMAT:
        raise DeconvnetError(f"{file} was written by another version of deconvnet, in a format that this one does not know.")
    return state, parse_metadata(entries, f"The description inside {file}", state.pop(_MEAN_IMAGE, None))


def _read_checkpoint(file: Path) -> StateDict:
    with file.open("rb") as stream:
        if not stream.read(2).startswith((b"PK", b"\x80")):
            raise DeconvnetError(
                f"{file} is not a PyTorch checkpoint, by its first bytes: it is neither a zip archive nor a pickle, as "
                "torch.save writes them."
            )
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch each raise their own types
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise DeconvnetError(
            f"{file} is not a PyTorch checkpoint that holds tensors and plain values only, and nothing else is loaded, "
            f"because a pickle can run code ({reason})."
        ) from None
    for key in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise DeconvnetError(f"{file} holds no state dictionary: save one with torch.save(module.state_dict(), path).")
    state = rename_pytorchcv_tensors({str(name).removeprefix("module."): value for name, value in loaded.items()})
    if len(state) < len(loaded):
        raise DeconvnetError(
            f"{file} has two tensors for one place of the network, such as conv1.weight and module.conv1.weight: keep "
            "one of them."
        )
    return state


def check_state_dict(state: StateDict, expected: Mapping[str, Tensor], source: str, network: str) -> None:
    """Raise `DeconvnetError` for the first tensor whose name, shape or kind of number differs from a module's state."""
    missing = [name for name in expected if name not in state]
    if missing:
        layers = sorted({name.rpartition(".")[0] for name in missing})
        raise DeconvnetError(f"{source} lacks layers of {network}: {', '.join(layers)} (no tensor {missing[0]!r}).")
    unknown = [name for name in state if name not in expected]
    if unknown:
        raise DeconvnetError(
            f"{source} has a tensor {unknown[0]!r} that {network} does not have: it belongs to another network."
        )
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape:
            raise DeconvnetError(
                f"{source} has {name} of shape {tuple(state[name].shape)}, but {network} has {tuple(tensor.shape)}."
            )
        value = state[name]
        dense = value.layout is torch.strided and not value.is_meta
        if not dense or value.is_floating_point() != tensor.is_floating_point():
            raise DeconvnetError(
                f"{source} has {name} as a tensor ({value.dtype}, {value.layout}, on {value.device}) that {network} cannot "
                f"compute with: save it as a dense tensor of {tensor.dtype}."
            )


def file_digest(file: Path, algorithm: str = "sha256") -> str:
    """Hexadecimal SHA-256, or another digest that `hashlib` has, of a file's bytes."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, algorithm).hexdigest()
    except FileNotFoundError:
        raise DeconvnetError(f"There is no file {file}.") from None
    except OSError as error:
        raise DeconvnetError(f"{file} cannot be read: {error.strerror}.") from None


def save_weights(network: Network, file: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write an `AlexNet2012` or a `ZFNet`, with its options, preprocessing and classes, to one safetensors file.

    The weights are saved as `dtype`; the file is written completely or not at all. Raises `UsageError` for any other module,
    or if `file` does not end in .safetensors, `DeconvnetError` if it cannot be written.
    """
    module = network.module
    if not isinstance(module, AlexNet2012 | ZFNet):
        raise UsageError(f"{network.name} is not a network of this project: save it with torch.save or safetensors.")
    metadata = {
        "format": _FORMAT,
        "network": "zfnet" if isinstance(module, ZFNet) else "alexnet2012",
        "weights": network.weights,
        "options": asdict(module.options),
        **preprocessing_metadata(network.preprocessing, "in this file"),
    }
    if network.classes is not None:
        metadata["classes"] = network.classes
    state = {name: tensor.detach().cpu().to(dtype).contiguous() for name, tensor in module.state_dict().items()}
    if network.preprocessing.mean.shape[-1] > 1:
        state[_MEAN_IMAGE] = network.preprocessing.mean.contiguous()
    content = save(state, {"deconvnet": json.dumps(metadata)})  # `save_file` would make a file that only its owner can read
    with atomic_path(file, ".safetensors") as unfinished, unfinished.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
