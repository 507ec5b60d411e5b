"""The aliased fraction of a unit's response, from the definition: one unit, one line at a time, with a plain Fourier sum."""

import cmath
import math


def aliased_energy(line, jump):
    """Energy above half a cycle per step of `jump` pixels, and in all, of a unit's responses at all pixels of a line."""
    length = len(line)
    mean = sum(line) / length
    window = [0.5 - 0.5 * math.cos(2 * math.pi * (pixel + 1) / (length + 1)) for pixel in range(length)]
    aliased = total = 0.0
    for k in range(length):
        coefficient = sum(
            (value - mean) * weight * cmath.exp(-2j * math.pi * k * pixel / length)
            for pixel, (value, weight) in enumerate(zip(line, window, strict=True))
        )
        frequency = min(k, length - k) / length
        total += abs(coefficient) ** 2
        if frequency > 1 / (2 * jump) + 1e-12:
            aliased += abs(coefficient) ** 2
    return aliased, total
