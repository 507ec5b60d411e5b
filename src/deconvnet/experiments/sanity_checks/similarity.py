"""Similarity of two projections or two occlusion maps, as in Adebayo et al. (2018)."""

import numpy as np
from torch import Tensor

from deconvnet.projection import display_scale

#: Keys of the results of `projection_similarities`.
MEASURES = ("signed", "absolute", "ssim")

#: Side of SSIM's window, in pixels.
_SSIM_WINDOW = 7


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation of all values of two arrays of the same shape; NaN if either is empty or constant."""
    from scipy import stats  # takes a second to import, which most commands need not wait for

    first, second = first.ravel(), second.ravel()
    if first.size == 0 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(stats.spearmanr(first, second).statistic)


def projection_similarities(first: Tensor, second: Tensor) -> dict[str, float]:
    """The similarity of two projections (3, h, w), by name of the measure (`MEASURES`).

    "signed" and "absolute" are Spearman's rank correlations of the values and of their absolute values. "ssim" is the
    structural similarity (Wang et al. 2004) of the projections as they are drawn, each on its own grey scale. NaN where a
    projection is all zero, or smaller than SSIM's window. The projections must be cropped to the part of their receptive
    field that is inside the image: common zeros outside of it would make all projections similar.
    """
    from skimage.metrics import structural_similarity

    a, b = (projection.cpu().double().numpy() for projection in (first, second))
    similarities = {
        "signed": rank_correlation(a, b),
        "absolute": rank_correlation(np.abs(a), np.abs(b)),
        "ssim": float("nan"),
    }
    if a.any() and b.any() and min(a.shape[1:]) >= _SSIM_WINDOW:
        pictures = [np.clip(values / display_scale(projection), -1, 1) for values, projection in ((a, first), (b, second))]
        ssim = structural_similarity(*pictures, win_size=_SSIM_WINDOW, data_range=2.0, channel_axis=0)  # type: ignore[no-untyped-call]
        similarities["ssim"] = float(ssim)
    return similarities
