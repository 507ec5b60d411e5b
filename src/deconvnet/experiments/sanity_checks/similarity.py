"""How alike two pictures of what a network sees are, with their signs and without."""

import numpy as np
from torch import Tensor

from deconvnet.projection import display_scale

MEASURES = ("signed", "absolute", "ssim")

#: Pixels of SSIM's window.
_WINDOW = 7


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's, of all values; NaN if either has one value only."""
    from scipy import stats  # takes a second to import, which most commands need not wait for

    one, other = one.ravel(), other.ravel()
    if one.size == 0 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(stats.spearmanr(one, other).statistic)


def likeness(one: Tensor, other: Tensor) -> dict[str, float]:
    """Of two projections (3, h, w), which are cut to the part of the photo in their receptive field: zeros beyond it would
    make all alike.

    `signed` and `absolute` are Spearman's rank correlations of the values and of their sizes; `ssim` is the structural
    similarity (Wang et al. 2004) of the pictures as they are drawn, each on its own grey scale. NaN where a projection is
    all zero, or too small for SSIM's window.
    """
    from skimage.metrics import structural_similarity

    a, b = (part.double().cpu().numpy() for part in (one, other))
    found = {"signed": rank_correlation(a, b), "absolute": rank_correlation(np.abs(a), np.abs(b)), "ssim": float("nan")}
    if a.any() and b.any() and min(a.shape[1:]) >= _WINDOW:
        pictures = [np.clip(values / display_scale(part), -1, 1) for values, part in ((a, one), (b, other))]
        similarity = structural_similarity(*pictures, win_size=_WINDOW, data_range=2.0, channel_axis=0)  # type: ignore[no-untyped-call]
        found["ssim"] = float(similarity)
    return found
