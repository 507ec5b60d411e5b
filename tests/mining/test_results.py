"""The draw of random units, on which every figure of random units depends."""

import numpy as np
import pytest

from deconvnet.mining import draw_random_units, mine


def test_the_draw_stays_the_same():
    """A changed draw would show other units under the same seed."""
    active = [unit % 5 != 0 for unit in range(40)]
    assert draw_random_units(active, 6, np.random.default_rng(0)) == [2, 4, 11, 23, 24, 27]


@pytest.mark.parametrize("seed", range(20))
def test_dead_units_are_drawn_only_where_too_few_others_remain(seed):
    active = [True, False, False, True, False]
    generator = np.random.default_rng(seed)
    assert draw_random_units(active, 1, generator)[0] in (0, 3)
    assert draw_random_units(active, 2, generator) == [0, 3]
    drawn = draw_random_units(active, 3, generator)
    assert {0, 3} < set(drawn)
    assert drawn == sorted(drawn)
    assert draw_random_units(active, 9, generator) == [0, 1, 2, 3, 4]


def test_hits_draw_among_the_units_that_have_any(small_network, photo_folder):
    hits = mine(small_network, photo_folder, ["conv1"])["conv1"]
    assert hits.random_units(4, np.random.default_rng(0)) == [0, 1, 2, 3]  # unit 4 is dead
