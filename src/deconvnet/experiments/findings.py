"""What section 4.1 sees in pictures of two networks, said of any two, by numbers."""

from dataclasses import dataclass
from typing import Any

import torch
from scipy import stats

from deconvnet.experiments.side import Side

#: A difference between the units of two networks counts if units alike would show it less often than this.
LEVEL = 0.05

#: A few filters dominate a layer if its strongest has this many times the RMS of its median filter.
DOMINATES = 4.0


@dataclass(frozen=True)
class Finding:
    """One thing that the paper reports, and what is found of it."""

    paper: str
    """What the paper says."""
    here: str
    """What was measured, in a sentence."""
    has: tuple[bool, bool] | None
    """Which of the two networks has it; None where nothing can be said or they do not differ beyond chance."""

    def as_json(self) -> dict[str, Any]:
        return {"paper": self.paper, "here": self.here, "has": self.has and list(self.has)}


def findings(one: Side, other: Side) -> list[Finding]:
    """Each of the paper's findings, as far as both networks have what it speaks of.

    Where shares of units are compared it is by Fisher's exact test, where values of units are by Mann and Whitney's. Both
    ask whether units like these could differ so much by chance; other trainings of the same networks may differ more.
    """
    sides = one, other
    found = []
    if one.spectra is not None and other.spectra is not None:
        bands = [spectra.bands for spectra in (one.spectra, other.spectra)]
        found.append(
            _fewer(
                "AlexNet's first filters are a mix of very high and low frequencies, with little coverage of the middle.",
                "filters of the first layer that prefer a middle frequency",
                sides,
                [band == 1 for band in bands],
            )
        )
    firsts = [side.layers[side.first] for side in sides]
    useless = [layer.hardly_active if layer.faint is None else layer.hardly_active | layer.faint for layer in firsts]
    found.append(
        _more(
            "AlexNet's first layer has more dead features.",
            "units of the first layer that are hardly ever active, or whose filter is faint",
            sides,
            useless,
        )
    )
    if copies := _of_both([layer.duplicates for layer in firsts]):
        found.append(
            _more(
                "ZFNet's first layer has more distinctive features.",
                "filters of the first layer that are nearly the same as another",
                sides,
                copies,
            )
        )
    if aliased := _of_both([layer.aliasing for layer in firsts]):
        found.append(_stronger("first", sides, aliased))
    if (one.second, other.second) != (one.first, other.first) and (
        aliased := _of_both([side.layers[side.second].aliasing for side in sides])
    ):
        found.append(_stronger("second", sides, aliased))
    if strengths := _of_both([layer.rms for layer in firsts]):
        found.append(_dominated(sides, strengths))
    return found


def _of_both(values: list[torch.Tensor | None]) -> list[torch.Tensor]:
    """Both networks' values, or nothing if one has none."""
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else []


def _names(sides: tuple[Side, Side]) -> tuple[str, str]:
    """The networks' names without their weights where that tells them apart."""
    short = [side.network.partition(" (")[0] for side in sides]
    return (short[0], short[1]) if short[0] != short[1] else (sides[0].network, sides[1].network)


def _more(paper: str, what: str, sides: tuple[Side, Side], units: list[torch.Tensor], fewer: bool = False) -> Finding:
    """The network with more (or fewer) such units has the finding, if the difference is not chance."""
    counts, totals = [int(part.sum()) for part in units], [len(part) for part in units]
    p = float(stats.fisher_exact([counts, [total - count for total, count in zip(totals, counts, strict=True)]]).pvalue)
    first, second = _names(sides)
    numbers = (
        f"{what[0].upper()}{what[1:]}: {counts[0]} of {totals[0]} in {first}, {counts[1]} of {totals[1]} in {second} "
        f"(p = {p:.2g})"
    )
    shares = [count / total for count, total in zip(counts, totals, strict=True)]
    return _verdict(paper, numbers, sides, p, (shares[0] < shares[1]) == fewer)


def _fewer(paper: str, what: str, sides: tuple[Side, Side], units: list[torch.Tensor]) -> Finding:
    return _more(paper, what, sides, units, fewer=True)


def _stronger(which: str, sides: tuple[Side, Side], values: list[torch.Tensor]) -> Finding:
    """The network whose units' answers are aliased more."""
    paper = "Stride 4 in AlexNet's first layer causes aliasing, which shows in the second."
    known = [value[~value.isnan()] for value in values]
    first, second = _names(sides)
    if not all(len(value) for value in known):
        return Finding(paper, f"No unit of the {which} layer answers, or too few of its places see no border.", None)
    medians = [float(value.median()) for value in known]
    p = float(stats.mannwhitneyu(*(value.numpy() for value in known)).pvalue)
    numbers = (
        f"The aliased share of answers in the {which} layer, median: {medians[0]:.1%} in {first}, "
        f"{medians[1]:.1%} in {second} (p = {p:.2g})"
    )
    return _verdict(paper, numbers, sides, p, medians[0] > medians[1])


def _dominated(sides: tuple[Side, Side], strengths: list[torch.Tensor]) -> Finding:
    """Whether a few filters dominate, in each network for itself."""
    paper = "Without renormalisation a few filters of the first layer dominate (Fig. 6a)."
    ratios = [float(rms.max() / rms.median()) if rms.median() > 0 else float("inf") for rms in strengths]
    first, second = _names(sides)
    has = ratios[0] >= DOMINATES, ratios[1] >= DOMINATES
    numbers = (
        f"The strongest filter of the first layer has {ratios[0]:.1f} times the RMS of the median filter in {first}, "
        f"{ratios[1]:.1f} times in {second}"
    )
    which = {(True, True): "both have", (False, False): "neither has"}.get(has, f"{first if has[0] else second} has")
    return Finding(paper, f"{numbers}: {which} the finding ({DOMINATES:g} times or more).", has)


def _verdict(paper: str, numbers: str, sides: tuple[Side, Side], p: float, first_has_it: bool) -> Finding:
    if not p < LEVEL:
        return Finding(paper, f"{numbers}: no difference beyond chance.", None)
    names = _names(sides)
    has, has_not = names if first_has_it else names[::-1]
    return Finding(paper, f"{numbers}: {has} has the finding, {has_not} has not.", (first_has_it, not first_has_it))
