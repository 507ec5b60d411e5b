"""Which tensor of what a module returns is its output proper: the class scores of a classifier."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from deconvnet.errors import DeconvnetError

#: What libraries call the output proper among others: transformers and torchvision.
_NAMES = ("logits", "out")


def find_output(returned: Any, count: int, complete: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> Tensor:
    """The output proper among what a module returns for `count` images: a tensor, whose rows are the images.

    It is the tensor itself, what is called `logits` or `out`, the only tensor there is, or of a tuple or list the only
    vector, or else the first tensor (auxiliary outputs come last). Scores from which the images were squeezed out, or that
    still have places of size one, become (count, classes). `complete` makes a whole tensor of each that is looked at.

    Raises `DeconvnetError` if there is no such tensor.
    """
    if isinstance(returned, Tensor):
        output = _with_rows(complete(returned), count)
        if output.dim() and len(output) == count:
            return output
        raise DeconvnetError(f"Its output for {count} images is a tensor of shape {tuple(output.shape)}.")
    for name in _NAMES:
        value = returned.get(name) if isinstance(returned, Mapping) else getattr(returned, name, None)
        if value is not None:
            return find_output(value, count, complete)
    if isinstance(returned, Mapping):
        if len(returned) == 1:
            return find_output(next(iter(returned.values())), count, complete)
        raise DeconvnetError(
            f"Its output is a dictionary of {', '.join(map(str, returned))}: wrap it in a module that returns its class "
            "scores alone."
        )
    if isinstance(returned, tuple | list):
        tensors = [_with_rows(complete(item), count) for item in returned if isinstance(item, Tensor)]
        tensors = [tensor for tensor in tensors if len(tensor) == count]
        vectors = [tensor for tensor in tensors if tensor.dim() == 2]
        if tensors:
            return vectors[0] if len(vectors) == 1 else tensors[0]
    raise DeconvnetError(
        f"Its output is {type(returned).__name__}, not a tensor: wrap it in a module that returns its class scores alone."
    )


def _with_rows(output: Tensor, count: int) -> Tensor:
    if output.dim() > 2 and output.shape[2:].numel() == 1:
        return output.flatten(1)
    if output.dim() < 2 and (count == 1 or output.numel() == count):
        return output.reshape(count, -1)
    return output
