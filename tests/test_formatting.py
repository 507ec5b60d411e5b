"""Printable names, shortened names, numbers for JSON."""

import json
import math
import os

import numpy as np
import pytest
import torch

from deconvnet.formatting import field_seen, field_size, json_number, json_numbers, printable, shorten


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


def test_a_shortened_text_keeps_its_start_or_its_end():
    assert shorten("left eye", 8) == "left eye"
    assert shorten("left eye", 7) == "left e…"
    assert shorten("left eye", 7, keep="end") == "…ft eye"
    assert shorten("left eye", 1) == shorten("left eye", 1, keep="end") == "…"


def test_numbers_for_json_are_finite():
    assert [json_number(value) for value in (1, 0.1234567, -0.0, 1e300, math.nan, math.inf, -math.inf)] == [
        1.0,
        0.1234567,
        -0.0,
        1e300,
        None,
        None,
        None,
    ]
    assert json_number(0.1234567, 4) == 0.1235
    assert json_number(1234567, 6) == 1234570.0
    assert type(json_number(1)) is float


@pytest.mark.parametrize("as_values", [list, np.array, torch.tensor, lambda rows: [np.array(row) for row in rows]])
def test_nested_numbers_for_json(as_values):
    rows = as_values([[1.25, math.nan], [math.inf, -2.0]])
    assert json_numbers(rows) == [[1.25, None], [None, -2.0]]
    assert json_numbers(rows, 2) == [[1.2, None], [None, -2.0]]
    assert json_numbers(rows[0]) == [1.25, None]
    assert json_numbers([]) == []
    assert json.loads(json.dumps(json_numbers(rows), allow_nan=False)) == json_numbers(rows)


@pytest.mark.parametrize(
    ("status", "size", "seen"),
    [
        ("exact", "37×41", "37×41 pixels"),
        ("upper bound", "at most 37×41", "at most 37×41 pixels"),
        ("whole image", "whole image", "the whole image"),
        ("depends on the data", "depends on the data", "the whole image, or what the data in it decide"),
    ],
)
def test_a_field_that_is_not_exact_says_so(status, size, seen):
    assert field_size((37, 41), status) == size
    assert field_seen([37, 41], status) == seen
