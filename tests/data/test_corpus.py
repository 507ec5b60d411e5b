"""Odd and broken files under odd names: each is read as it should be or skipped by name, and none stops a run."""

import csv
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from deconvnet import Atlas, cli, mine
from deconvnet.data import UnreadableImage, find_images, read_image
from deconvnet.formatting import printable
from helpers.odd_images import odd_images

READABLE = [odd for odd in odd_images() if not odd.reason]
BROKEN = [odd for odd in odd_images() if odd.reason]


@pytest.fixture
def corpus(tmp_path):
    for odd in odd_images():
        odd.write(tmp_path / "corpus")
    return tmp_path / "corpus"


def test_the_corpus_is_large():
    names = {odd.name for odd in odd_images()}
    assert len(names) == len(READABLE) + len(BROKEN)
    assert len(BROKEN) >= 40
    assert len(READABLE) >= 40


def check(odd, image):
    assert image.mode == "RGB"
    assert image.size == odd.size
    width, height = odd.size
    for colour, (right, down) in zip(odd.quarters, ((0, 0), (1, 0), (0, 1), (1, 1)), strict=True):
        found = image.getpixel(((1 + 2 * right) * width // 4, (1 + 2 * down) * height // 4))
        assert np.abs(np.subtract(found, colour)).max() <= odd.tolerance


@pytest.mark.parametrize("odd", READABLE, ids=lambda odd: ascii(odd.name))
def test_what_can_be_read_shows_its_colours(odd, tmp_path):
    for needed in (readable for readable in READABLE if readable.name == "folder.jpg/x.png" and odd.name == "link.png"):
        needed.write(tmp_path)
    odd.write(tmp_path)
    check(odd, read_image(tmp_path / odd.name))


@pytest.mark.parametrize("odd", BROKEN, ids=lambda odd: ascii(odd.name))
def test_what_is_broken_says_why(odd, tmp_path):
    odd.write(tmp_path)
    with pytest.raises(UnreadableImage) as caught:
        read_image(tmp_path / odd.name)
    assert odd.reason in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_many_threads_read_what_one_reads(corpus):
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(read_image, corpus / odd.name) for odd in odd_images() * 3]
        for odd, future in zip(odd_images() * 3, futures, strict=True):
            if odd.reason:
                assert odd.reason in str(future.exception())
            else:
                check(odd, future.result())


def by_path(mined):
    return {
        (layer, hit.unit, hit.path): (hit.value, hit.row, hit.column)
        for layer in mined.layers
        for unit in mined[layer]
        for hit in unit
    }


def test_mining_names_what_it_skips_and_finds_in_the_rest_what_it_finds_there_alone(corpus, small_network):
    top = len(READABLE)
    mined = mine(small_network, corpus, top=top, batch_size=8)
    skipped = {mined.image_set.paths[index]: reason for index, reason in mined.skipped.items()}
    assert skipped.keys() == {odd.name for odd in BROKEN}
    assert all(odd.reason in skipped[odd.name] for odd in BROKEN)
    assert mined.read_count == len(READABLE)

    for odd in BROKEN:
        (corpus / odd.name).unlink()
    alone = by_path(mine(small_network, corpus, top=top, batch_size=8))
    found = by_path(mined)
    assert {path for _, _, path in found} == {odd.name for odd in READABLE}
    assert found.keys() == alone.keys()
    for key, (value, *position) in found.items():
        assert alone[key][0] == pytest.approx(value, rel=1e-5)
        assert [*alone[key][1:]] == position


def test_the_command_line_makes_an_atlas_of_them(corpus, small_network, tmp_path, monkeypatch, capsys):
    (corpus / "notes\x1b[1m\n.txt").write_text("no photo")
    monkeypatch.setattr("deconvnet.models.load", lambda *_, **__: small_network)
    words = "atlas", "small", str(corpus), "--out", str(tmp_path / "a"), "--device", "cpu", "--units", "0-1"
    monkeypatch.setattr(sys, "argv", ["deconvnet", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    skipped_lines = [line for line in lines if line.startswith("  ")]
    assert len(skipped_lines) == len(BROKEN)
    for odd in BROKEN:
        lines_of_file = [line for line in skipped_lines if line.startswith(f"  {printable(odd.name)} ")]
        assert sum(odd.reason in line for line in lines_of_file) == 1, odd.name
    assert r"notes\x1b[1m\n.txt" in lines[1]
    assert all(character.isprintable() for line in lines for character in line)

    book = Atlas(tmp_path / "a")
    images = json.loads((book.folder / "atlas.json").read_text(encoding="utf-8"))["images"]
    assert {skipped["path"] for skipped in images["skipped"]} == {odd.name for odd in BROKEN}
    assert (images["found"], images["read"]) == (len(odd_images()), len(READABLE))
    image_set = find_images(corpus)
    with (book.folder / "images.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as opened:
        listed = {int(row["image"]): row for row in csv.DictReader(opened)}
    assert {row["path"] for row in listed.values()} == {odd.name for odd in READABLE}
    for index, row in listed.items():
        assert (row["path"], row["label"]) == (image_set.paths[index], image_set.labels[index])
    assert {int(hit["image"]) for hit in book.hits} <= listed.keys()
    with np.load(book.folder / "classes.npz") as classes:
        assert tuple(classes["classes"].tolist()) == image_set.classes
