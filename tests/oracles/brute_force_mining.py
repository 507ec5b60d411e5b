"""Mining written from its definition: all activations of all images in memory, sorted."""

import math

import numpy as np


def hits_of(maps: np.ndarray, top: int) -> list[list[tuple[float, int, int, int]]]:
    """For maps (images, units, rows, columns): per unit the (value, image, row, column) of its `top` images, best first."""
    images, units, rows, columns = maps.shape
    result = []
    for unit in range(units):
        maxima = []
        for image in range(images):
            best = None
            for row in range(rows):
                for column in range(columns):
                    value = float(maps[image, unit, row, column])
                    if best is None or value > best[0]:
                        best = (value, image, row, column)
            if best[0] > 0:
                maxima.append(best)
        result.append(sorted(maxima, key=lambda hit: (-hit[0], hit[1]))[:top])
    return result


def statistics_of(maps: np.ndarray, labels: list[str], edges: list[float]) -> list[dict]:
    """Per unit: active_share, mean_max, histogram, class sums by label, selectivity."""
    classes = sorted(set(labels) - {""})
    result = []
    for unit in range(maps.shape[1]):
        maxima = [float(image[unit].max()) for image in maps]
        histogram = [0] * (len(edges) + 1)
        for value in maxima:
            if value > 0:
                histogram[sum(value >= edge for edge in edges)] += 1
        by_class = {name: [m for m, label in zip(maxima, labels, strict=True) if label == name] for name in classes}
        means = {name: sum(values) / len(values) for name, values in by_class.items()}
        selectivity = math.nan
        if len(classes) > 1:
            best = max(classes, key=lambda name: means[name])
            others = [m for name in classes if name != best for m in by_class[name]]
            rest = sum(others) / len(others)
            selectivity = (means[best] - rest) / (means[best] + rest) if means[best] + rest > 0 else 0.0
        result.append(
            {
                "active_share": sum(m > 0 for m in maxima) / len(maxima),
                "mean_max": sum(maxima) / len(maxima),
                "histogram": histogram,
                "class_sums": {name: sum(values) for name, values in by_class.items()},
                "selectivity": selectivity,
            }
        )
    return result
