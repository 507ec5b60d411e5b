"""Display names of classes."""

from dataclasses import dataclass

import pytest

from deconvnet.data import imagenet_classes
from deconvnet.experiments.class_labels import class_name


@dataclass
class NetworkWithClasses:
    """The only attribute of a network that `class_name` reads."""

    classes: tuple[tuple[str, str], ...] | None


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        ([("n1", "tench, Tinca tinca"), ("n2", "cat")], ["tench", "cat"]),
        ([("n1", "crane, a bird"), ("n2", "cat"), ("n3", "crane, a machine")], ["crane (n1)", "cat", "crane (n3)"]),
        ([("", "crane"), ("n2", "crane")], ["crane (0)", "crane (n2)"]),
        ([("n1", ""), ("n2", ""), ("", "")], ["n1", "n2", "class 2"]),
    ],
)
def test_a_class_has_a_short_and_unambiguous_name(classes, names):
    network = NetworkWithClasses(tuple(classes))
    assert [class_name(network, index) for index in range(len(classes))] == names


def test_without_names_a_class_has_its_index():
    assert class_name(NetworkWithClasses(None), 7) == "class 7"


def test_all_names_of_imagenet_are_different():
    network = NetworkWithClasses(imagenet_classes())
    assert len({class_name(network, index) for index in range(1000)}) == 1000
