"""The figure of Table 3: our errors and the paper's, as bars."""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
from matplotlib.figure import Figure

from deconvnet.experiments.table3_ablation.variants import Errors, Variant


def ablation_figure(variants: Sequence[Variant], ours: Sequence[Errors | None], description: str) -> Figure:
    """A panel for each of the three errors, with a bar of ours above one of the paper's for each variant.

    `ours` are None where a variant is not measured yet.
    """
    figure = Figure(figsize=(13, 6.6), dpi=110, facecolor="white", layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    positions = np.arange(len(variants))
    titles = ("training, top-1", "validation, top-1", "validation, top-5")
    for axes, error, title in zip(panels, fields(Errors), titles, strict=True):
        our_errors = [100 * getattr(errors, error.name) if errors else 0 for errors in ours]
        labels = [f"{value:.1f}" if errors else "–" for value, errors in zip(our_errors, ours, strict=True)]
        paper_errors = [100 * getattr(variant.paper, error.name) for variant in variants]
        our_bars = axes.barh(positions - 0.2, our_errors, 0.38, color="#4477aa", label="ours")
        axes.bar_label(our_bars, labels, padding=3, fontsize=9)
        paper_bars = axes.barh(positions + 0.2, paper_errors, 0.38, color="0.75", label="the paper's, ImageNet 2012")
        axes.bar_label(paper_bars, [f"{value:.1f}" for value in paper_errors], padding=3, fontsize=9, color="0.4")
        axes.set_xlim(0, 1.15 * max(*our_errors, *paper_errors))
        axes.set_title(f"error in %: {title}", fontsize=11, loc="left")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(left=False)
    panels[0].set_yticks(positions, [variant.label for variant in variants])
    panels[0].invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False)
    figure.supxlabel(description, fontsize=9, color="0.35", parse_math=False, wrap=True)
    return figure
