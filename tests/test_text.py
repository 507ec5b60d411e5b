"""Names as they are printed: readable where they can be, and harmless."""

import os

import pytest

from deconvnet.text import printable


@pytest.mark.parametrize(
    "name", ["a b.jpg", "naïve 'x', \"y\".jpg", "日本.jpg", "e\u0301", "👨\u200d👩", "שלום", "a\u00a0b", "C:\\new"]
)
def test_what_can_be_printed_stays(name):
    assert printable(name) == name


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31m\x07\x7f\x9b", r"\x1b[31m\x07\x7f\x9b"),
        ("a\u2028\u2029\u202egpj.exe\u2066", r"a\u2028\u2029\u202egpj.exe\u2066"),
        (os.fsdecode(b"\xff\x80 \xc3\xa9"), r"\xff\x80 é"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_would_disturb_a_terminal_is_written_out(name, printed):
    assert printable(name) == printed
    assert printable(printed) == printed
