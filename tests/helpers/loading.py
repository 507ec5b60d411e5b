"""What tests of weights files ask again and again."""

import pytest

from deconvnet.errors import DeconvnetError
from deconvnet.models import load


def refusal(*arguments):
    """The sentence with which `load` refuses."""
    with pytest.raises(DeconvnetError) as caught:
        load(*arguments)
    sentence = str(caught.value)
    assert sentence.endswith((".", ")."))
    assert "\n" not in sentence
    return sentence
