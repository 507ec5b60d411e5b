"""Whether a packed set, which holds the central squares of photos, has all that a network sees of a photo."""

from collections.abc import Callable

from PIL import Image
from torch import Tensor

from deconvnet.data.packed import PackedImageSet
from deconvnet.errors import DeconvnetError

#: Share of black to white by which inputs may differ on average for what is beside the square: resampling blurs its border.
_BLURRED = 0.02


def check_packed_views(image_set: object, preprocess: Callable[[Image.Image], Tensor], network: str) -> None:
    """Raise `DeconvnetError` if `image_set` is packed, and `preprocess`, of the network of that name, shows more of a photo
    than its central square, as one that squashes it does.
    """
    if not isinstance(image_set, PackedImageSet):
        return
    black, white, half = (Image.new("RGB", (512, 256), colour) for colour in ("black", "white", "black"))
    half.paste(white.crop((0, 0, 256, 256)), (128, 0))  # the central square is white
    range_, difference = ((preprocess(white) - preprocess(other)).abs().mean() for other in (black, half))
    if difference > _BLURRED * range_:
        raise DeconvnetError(
            f"{network} is shown more of a photo than its central square, and the packed set {image_set.root} holds nothing "
            "else: pass the folder of photos instead."
        )
