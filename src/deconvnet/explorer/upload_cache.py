"""Photos that were dropped on the page, as inputs of the networks; in memory only."""

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field

from torch import Tensor

from deconvnet.explorer.inference import Seen
from deconvnet.explorer.models import Ready
from deconvnet.explorer.responses import Refusal

#: Photos that are kept; the one that was used longest ago goes first.
MAX_IMAGES = 32


@dataclass(frozen=True)
class UploadedImage:
    """One photo."""

    inputs: dict[Ready, Tensor]
    """What each network is shown, (3, crop, crop)."""
    seen: dict[Ready, Seen] = field(default_factory=dict)
    """What each has made of it so far; written in the networks' thread."""


class UploadCache:
    """The photos that are kept, by token."""

    def __init__(self) -> None:
        self._photos: OrderedDict[str, UploadedImage] = OrderedDict()

    def keep(self, photo: UploadedImage) -> str:
        """Keep a photo; returns its token."""
        token = secrets.token_urlsafe(16)
        self._photos[token] = photo
        while len(self._photos) > MAX_IMAGES:
            self._photos.popitem(last=False)
        return token

    def __getitem__(self, token: str) -> UploadedImage:
        """Raises `Refusal` (404) if there is no such photo."""
        if token not in self._photos:
            raise Refusal(404, "This photo is not here any more: choose it again.")
        self._photos.move_to_end(token)
        return self._photos[token]
