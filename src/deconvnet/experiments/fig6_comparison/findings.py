"""What section 4.1 sees in pictures of two networks, said of any two, by numbers."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from deconvnet.experiments.fig6_comparison.network_stats import Sides
from deconvnet.experiments.fig6_comparison.spectra import BAND_NAMES

#: A difference between the units of two networks counts if units alike would show it less often than this: 0.05, shared
#: among five of them.
LEVEL = 0.01

#: A few filters dominate a layer if its strongest has this many times the RMS of its median filter, so that on a sheet
#: with one scale most look pale.
DOMINATES = 4.0


@dataclass(frozen=True)
class Finding:
    """One thing that the paper reports, and what is found of it."""

    paper: str
    """What the paper says."""
    here: str
    """What was measured, in a sentence."""
    has: tuple[bool, bool] | None
    """Which of the two networks has it, compared with the other; None where nothing can be said or they do not differ beyond
    chance.
    """

    def as_json(self) -> dict[str, Any]:
        return {"paper": self.paper, "here": self.here, "has": self.has and list(self.has)}


def findings(sides: Sides, photos: int) -> list[Finding]:
    """Each of the paper's findings, as far as both networks have what it speaks of; `photos` is how many were shown them.

    As in the paper one network is set against the other. Shares of units are compared by Fisher's exact test, values of
    units by Mann and Whitney's. Both ask whether units like these could differ so much by chance, as if each stood for
    itself; other trainings of the same networks may differ more.
    """
    firsts = [side.layers[side.first] for side in sides]
    found = [_middle_frequencies(sides), _dead(sides, photos)]
    if copies := _of_both([layer.duplicates for layer in firsts]):
        paper = "ZFNet's first layer has more distinctive features."
        found.append(_more(paper, "filters of the first layer that are nearly the same as another", sides, copies))
    found.append(_aliasing("first layer", "its", sides, [layer.aliasing for layer in firsts]))
    if all(side.second != side.first for side in sides):
        seconds = [side.layers[side.second] for side in sides]
        found.append(_aliasing("second layer", "the first layer's", sides, [layer.aliasing_below for layer in seconds]))
    found.append(_dominated(sides))
    return [finding for finding in found if finding is not None]


def _middle_frequencies(sides: Sides) -> Finding | None:
    if any(side.filters is None for side in sides):
        return None
    preferred = []
    for side in sides:
        faint = side.layers[side.first].faint
        assert side.spectra is not None
        bands = side.spectra.bands if faint is None else side.spectra.bands[~faint]
        preferred.append(bands == BAND_NAMES.index("middle"))
    sizes = [max(side.filters.shape[2:]) for side in sides if side.filters is not None]
    return _more(
        "AlexNet's first filters are a mix of very high and low frequencies, with little coverage of the middle.",
        f"first-layer filters, faint ones apart, that prefer a middle frequency (as far as {sizes[0]} and "
        f"{sizes[1]} pixels can tell frequencies apart)",
        sides,
        preferred,
        fewer=True,
    )


def _dead(sides: Sides, photos: int) -> Finding | None:
    paper = "AlexNet's first layer has more dead features."
    layers = [side.layers[side.first] for side in sides]
    useless, what = [layer.hardly_active for layer in layers], ""
    if faint := _of_both([layer.faint for layer in layers]):
        useless, what = [one | other for one, other in zip(useless, faint, strict=True)], ", or whose filter is faint"
    return _more(paper, f"units of the first layer that are active in under 1 % of {photos:,} photos{what}", sides, useless)


def _aliasing(layer: str, whose: str, sides: Sides, values: list[Tensor | None]) -> Finding | None:
    paper = "Stride 4 in AlexNet's first layer causes aliasing, which shows in the second."
    known = [value[~value.isnan()] for value in values if value is not None]
    if len(known) < len(values):
        return None
    first, second = names(sides)
    if not all(len(value) for value in known):
        return Finding(paper, f"No unit of the {layer} answers, or too few of its places see no border.", None)
    from scipy import stats  # only here, as it takes long to import

    medians = [float(value.median()) for value in known]
    test = stats.mannwhitneyu(*(value.numpy() for value in known))
    numbers = (
        f"Share of a unit's answers in the {layer} that {whose} steps cannot hold, median: {medians[0]:.1%} in {first}, "
        f"{medians[1]:.1%} in {second} (p = {test.pvalue:.2g})"
    )
    more = bool(test.statistic > len(known[0]) * len(known[1]) / 2)
    return _verdict(paper, numbers, sides, float(test.pvalue), more)


def _dominated(sides: Sides) -> Finding | None:
    """Whether a few filters dominate, in each network for itself."""
    paper = "Without renormalisation a few filters of the first layer dominate (Fig. 6a)."
    strengths = _of_both([side.layers[side.first].rms for side in sides])
    if not strengths or any(float(rms.median()) == 0 for rms in strengths):
        return None
    ratios = [float(rms.max() / rms.median()) for rms in strengths]
    first, second = names(sides)
    has = ratios[0] >= DOMINATES, ratios[1] >= DOMINATES
    numbers = (
        f"The strongest filter of the first layer has {ratios[0]:.1f} times the RMS of the median filter in {first}, "
        f"{ratios[1]:.1f} times in {second}"
    )
    which = {(True, True): "both have", (False, False): "neither has"}.get(has, f"{first if has[0] else second} has")
    return Finding(paper, f"{numbers}: {which} the finding ({DOMINATES:g} times or more).", has)


def _more(paper: str, what: str, sides: Sides, units: list[Tensor], fewer: bool = False) -> Finding | None:
    """The network with more (or fewer) such units has the finding, if the difference is not chance."""
    from scipy import stats  # only here, as it takes long to import

    counts, totals = [int(part.sum()) for part in units], [len(part) for part in units]
    if not all(totals):
        return None
    p = float(stats.fisher_exact([counts, [total - count for total, count in zip(totals, counts, strict=True)]]).pvalue)
    first, second = names(sides)
    numbers = (
        f"{what[0].upper()}{what[1:]}: {counts[0]} of {totals[0]} in {first}, {counts[1]} of {totals[1]} in {second} "
        f"(p = {p:.2g})"
    )
    return _verdict(paper, numbers, sides, p, (counts[0] * totals[1] < counts[1] * totals[0]) == fewer)


def _verdict(paper: str, numbers: str, sides: Sides, p: float, first_has_it: bool) -> Finding:
    if not p < LEVEL:
        return Finding(paper, f"{numbers}: no difference beyond chance.", None)
    has, beside = names(sides) if first_has_it else names(sides)[::-1]
    return Finding(
        paper, f"{numbers}: {has} has the finding, beside {beside}, which has not.", (first_has_it, not first_has_it)
    )


def _of_both(values: list[Tensor | None]) -> list[Tensor]:
    """Both networks' values, or nothing if one has none."""
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else []


def names(sides: Sides) -> tuple[str, str]:
    """The networks' names, without their weights where that tells them apart."""
    short = [side.network.partition(" (")[0] for side in sides]
    return (short[0], short[1]) if short[0] != short[1] else (sides[0].network, sides[1].network)
