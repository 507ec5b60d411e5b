"""Full float32 or TF32: PyTorch's older flags and newer settings agree, threads share them, and they are put back."""

from collections.abc import Iterator

import pytest
import torch

from deconvnet.tracing import exact_float32, float32_precision


def test_two_threads_within_exact_float32_leave_the_settings_as_they_were():
    """The first to enter must not restore them when it leaves first; nor may the second restore the values that it met."""
    settings = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = [setting.fp32_precision for setting in settings]
    first, second = exact_float32(), exact_float32()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert [setting.fp32_precision for setting in settings] == ["ieee", "ieee"]
    second.__exit__(None, None, None)
    assert [setting.fp32_precision for setting in settings] == before


@pytest.fixture
def _float32_settings() -> Iterator[None]:
    """Puts the settings of float32 back, the older flags and the newer ones, which change with each other."""
    backends = torch.backends
    settings = (backends, backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul, backends.mkldnn.matmul)
    before = [setting.fp32_precision for setting in settings]
    flags = backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    yield
    backends.cudnn.allow_tf32 = flags[0]
    torch.set_float32_matmul_precision(flags[1])
    for setting, precision in zip(settings, before, strict=True):
        setting.fp32_precision = precision


@pytest.mark.usefixtures("_float32_settings")
def test_exact_float32_holds_where_a_newer_setting_allows_rounding_everywhere():
    torch.backends.fp32_precision = "tf32"
    with exact_float32():
        assert torch.backends.cudnn.conv.fp32_precision == torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.backends.fp32_precision == torch.backends.cuda.matmul.fp32_precision == "tf32"


@pytest.mark.usefixtures("_float32_settings")
def test_exact_float32_puts_back_how_exact_products_have_to_be():
    torch.set_float32_matmul_precision("medium")
    with exact_float32():
        assert torch.get_float32_matmul_precision() == "highest"
        assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"  # on CPUs, medium means bfloat16
    assert torch.get_float32_matmul_precision() == "medium"


@pytest.mark.usefixtures("_float32_settings")
@pytest.mark.parametrize("allowed", [True, False])
def test_exact_float32_allows_no_rounding_within_and_puts_the_settings_back(allowed):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    with exact_float32():
        assert torch.backends.cuda.matmul.fp32_precision != "tf32"
        assert torch.backends.cudnn.conv.fp32_precision != "tf32"
        # Other code may read the older flags, which raises where they and the settings disagree.
        assert not torch.backends.cuda.matmul.allow_tf32
        assert not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.backends.cuda.matmul.allow_tf32 is allowed
    assert torch.backends.cudnn.allow_tf32 is allowed


def shown() -> tuple[object, ...]:
    """What the newer settings and the older flags say, which raises where they disagree."""
    backends = torch.backends
    settings = (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul)
    flags = backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision()
    return *(setting.fp32_precision for setting in settings), *flags


TF32 = ("tf32", "tf32", "tf32", True, True, "high")
EXACT = ("ieee", "ieee", "ieee", False, False, "highest")


@pytest.mark.usefixtures("_float32_settings")
@pytest.mark.parametrize("precision", ["highest", "high"])
def test_tf32_is_allowed_within_and_the_settings_are_put_back(precision):
    torch.set_float32_matmul_precision(precision)
    before = shown()
    with float32_precision("tf32"):
        assert shown() == TF32
    assert shown() == before


@pytest.mark.usefixtures("_float32_settings")
@pytest.mark.parametrize("exact_first", [True, False])
def test_of_two_threads_the_one_that_wants_full_float32_gets_it(exact_first):
    """A thread that trains in TF32 must not round what another one projects meanwhile."""
    before = shown()
    exact, rounded = exact_float32(), float32_precision("tf32")
    for context in (exact, rounded) if exact_first else (rounded, exact):
        context.__enter__()
    assert shown() == EXACT
    exact.__exit__(None, None, None)
    assert shown() == TF32
    rounded.__exit__(None, None, None)
    assert shown() == before


@pytest.mark.usefixtures("_float32_settings")
def test_full_float32_stays_when_the_thread_that_allows_tf32_leaves_first():
    before = shown()
    exact, rounded = exact_float32(), float32_precision("tf32")
    rounded.__enter__()
    exact.__enter__()
    rounded.__exit__(None, None, None)
    assert shown() == EXACT
    exact.__exit__(None, None, None)
    assert shown() == before
