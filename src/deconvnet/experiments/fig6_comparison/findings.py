"""What section 4.1 reports of pictures of two networks, tested with numbers for any two networks."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from deconvnet.experiments.fig6_comparison.network_stats import NetworkStatsPair
from deconvnet.experiments.fig6_comparison.spectra import BAND_NAMES

#: A difference between the units of two networks counts if its p-value is below this: 0.05, divided among five tests.
SIGNIFICANCE_LEVEL = 0.01

#: A few filters dominate a layer if its strongest has this many times the RMS of its median filter, so that on a sheet
#: with one scale most look pale.
DOMINANCE_RATIO = 4.0


@dataclass(frozen=True)
class Finding:
    """One of the paper's observations, and the measurement of it."""

    claim: str
    """What the paper says."""
    measured: str
    """The measurement, in a sentence."""
    seen_in: tuple[bool, bool] | None
    """In which of the two networks it is seen, compared with the other; None if nothing can be measured or the difference is
    not significant.
    """

    def as_json(self) -> dict[str, Any]:
        return {"paper": self.claim, "here": self.measured, "has": self.seen_in and list(self.seen_in)}


def findings(networks: NetworkStatsPair, image_count: int, noun: str = "photo") -> list[Finding]:
    """Each of the paper's findings for which both networks have the numbers, which are over `image_count` images, called
    `noun`.

    As in the paper one network is compared with the other. Fractions of units are compared by Fisher's exact test, values of
    units by the Mann-Whitney U test. Both ask whether such units could differ so much by chance if they were independent;
    other trainings of the same networks may differ more.
    """
    first_layers = [stats.layers[stats.first_layer] for stats in networks]
    results = [_middle_frequencies(networks), _dead_units(networks, image_count, noun)]
    if duplicates := _if_both([layer.duplicates for layer in first_layers]):
        claim = "ZFNet's first layer has more distinctive features."
        what = "filters of the first layer that are nearly the same as another"
        results.append(_compare_counts(claim, what, networks, duplicates))
    results.append(_aliasing("first layer", "its", networks, [layer.aliasing for layer in first_layers]))
    if all(stats.shown_layer != stats.first_layer for stats in networks):
        aliasing = [stats.layers[stats.shown_layer].first_stride_aliasing for stats in networks]
        results.append(_aliasing("second layer", "the first layer's", networks, aliasing))
    results.append(_dominant_filters(networks))
    return [finding for finding in results if finding is not None]


def _middle_frequencies(networks: NetworkStatsPair) -> Finding | None:
    if any(stats.filters is None for stats in networks):
        return None
    prefer_middle = []
    for stats in networks:
        is_faint = stats.layers[stats.first_layer].is_faint
        assert stats.spectra is not None
        bands = stats.spectra.band_indices if is_faint is None else stats.spectra.band_indices[~is_faint]
        prefer_middle.append(bands == BAND_NAMES.index("middle"))
    sizes = [max(stats.filters.shape[2:]) for stats in networks if stats.filters is not None]
    return _compare_counts(
        "AlexNet's first filters are a mix of very high and low frequencies, with little coverage of the middle.",
        f"first-layer filters, faint ones apart, that prefer a middle frequency (as far as {sizes[0]} and "
        f"{sizes[1]} pixels can tell frequencies apart)",
        networks,
        prefer_middle,
        fewer=True,
    )


def _dead_units(networks: NetworkStatsPair, image_count: int, noun: str) -> Finding | None:
    claim = "AlexNet's first layer has more dead features."
    layers = [stats.layers[stats.first_layer] for stats in networks]
    is_useless, or_faint = [layer.hardly_active for layer in layers], ""
    if is_faint := _if_both([layer.is_faint for layer in layers]):
        is_useless = [inactive | faint for inactive, faint in zip(is_useless, is_faint, strict=True)]
        or_faint = ", or whose filter is faint"
    what = f"units of the first layer that are active in under 1 % of {image_count:,} {noun}s{or_faint}"
    return _compare_counts(claim, what, networks, is_useless)


def _aliasing(layer: str, whose: str, networks: NetworkStatsPair, values: list[Tensor | None]) -> Finding | None:
    claim = "Stride 4 in AlexNet's first layer causes aliasing, which shows in the second."
    fractions = [value[~value.isnan()] for value in values if value is not None]
    if len(fractions) < len(values):
        return None
    first, second = short_names(networks)
    if not all(len(value) for value in fractions):
        return Finding(claim, f"No unit of the {layer} answers, or too few of its places see no border.", None)
    from scipy import stats  # only here, as it takes long to import

    medians = [float(value.median()) for value in fractions]
    test = stats.mannwhitneyu(*(value.numpy() for value in fractions))
    measured = (
        f"Share of a unit's answers in the {layer} that {whose} steps cannot hold, median: {medians[0]:.1%} in {first}, "
        f"{medians[1]:.1%} in {second} (p = {test.pvalue:.2g})"
    )
    first_has_more = bool(test.statistic > len(fractions[0]) * len(fractions[1]) / 2)
    return _finding(claim, measured, networks, float(test.pvalue), first_has_more)


def _dominant_filters(networks: NetworkStatsPair) -> Finding | None:
    """Whether a few filters dominate, in each network by itself."""
    claim = "Without renormalisation a few filters of the first layer dominate (Fig. 6a)."
    filter_rms = _if_both([stats.layers[stats.first_layer].rms for stats in networks])
    if not filter_rms or any(float(rms.median()) == 0 for rms in filter_rms):
        return None
    ratios = [float(rms.max() / rms.median()) for rms in filter_rms]
    first, second = short_names(networks)
    seen_in = ratios[0] >= DOMINANCE_RATIO, ratios[1] >= DOMINANCE_RATIO
    measured = (
        f"The strongest filter of the first layer has {ratios[0]:.1f} times the RMS of the median filter in {first}, "
        f"{ratios[1]:.1f} times in {second}"
    )
    which = {(True, True): "both have", (False, False): "neither has"}.get(seen_in, f"{first if seen_in[0] else second} has")
    return Finding(claim, f"{measured}: {which} the finding ({DOMINANCE_RATIO:g} times or more).", seen_in)


def _compare_counts(
    claim: str, what: str, networks: NetworkStatsPair, masks: list[Tensor], fewer: bool = False
) -> Finding | None:
    """The finding is seen in the network with more (or fewer) units that are `what`, if the difference is significant.

    `masks` tell which units of each network are, (units,) bool.
    """
    from scipy import stats  # only here, as it takes long to import

    counts, totals = [int(mask.sum()) for mask in masks], [len(mask) for mask in masks]
    if not all(totals):
        return None
    rest = [total - count for total, count in zip(totals, counts, strict=True)]
    p_value = float(stats.fisher_exact([counts, rest]).pvalue)
    first, second = short_names(networks)
    measured = (
        f"{what[0].upper()}{what[1:]}: {counts[0]} of {totals[0]} in {first}, {counts[1]} of {totals[1]} in {second} "
        f"(p = {p_value:.2g})"
    )
    return _finding(claim, measured, networks, p_value, (counts[0] * totals[1] < counts[1] * totals[0]) == fewer)


def _finding(claim: str, measured: str, networks: NetworkStatsPair, p_value: float, in_first: bool) -> Finding:
    """The finding of a significance test; `in_first` says in which network it is seen if the difference is significant."""
    if not p_value < SIGNIFICANCE_LEVEL:
        return Finding(claim, f"{measured}: no difference beyond chance.", None)
    seen_in, not_in = short_names(networks) if in_first else short_names(networks)[::-1]
    sentence = f"{measured}: {seen_in} has the finding, beside {not_in}, which has not."
    return Finding(claim, sentence, (in_first, not in_first))


def _if_both(values: list[Tensor | None]) -> list[Tensor]:
    """Both networks' values, or an empty list if one has none."""
    tensors = [value for value in values if value is not None]
    return tensors if len(tensors) == len(values) else []


def short_names(networks: NetworkStatsPair) -> tuple[str, str]:
    """The networks' names, without their weights if the names differ."""
    short = [stats.network.partition(" (")[0] for stats in networks]
    return (short[0], short[1]) if short[0] != short[1] else (networks[0].network, networks[1].network)
