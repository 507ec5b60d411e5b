"""Packed sets: what is in them, that nothing half-written passes for one, and that nothing done is lost."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deconvnet import Atlas, mine
from deconvnet.data import find_images, find_splits, pack
from deconvnet.data.packed import open_packed
from deconvnet.data.transforms import central_square
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.training.data import mean_image, read_squares
from helpers.killing import files

pack_module = sys.modules["deconvnet.data.packing"]

UNREADABLE = "is not a JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF image, or it is damaged"


@pytest.fixture
def image_set(photo_folder):
    return find_images(photo_folder)


@pytest.fixture
def packed(image_set, tmp_path):
    return pack({"": image_set}, tmp_path / "packed")[""]


def test_a_packed_set_holds_the_squares_labels_and_mean_of_what_can_be_read(image_set, packed):
    good = [path for path in image_set.paths if path != "bee/broken.jpg"]
    expected = np.stack([central_square(image_set.read(image_set.paths.index(path))) for path in good])
    assert packed.paths == tuple(good)
    assert packed.classes == ("ant", "bee", "cat")
    assert (packed.pixels[packed.rows] == expected).all()
    assert np.array_equal(packed.mean, expected.mean(axis=0, dtype=np.float64).astype(np.float32))
    assert not packed.pixels[image_set.paths.index("bee/broken.jpg")].any()
    assert (np.asarray(packed.read(3)) == expected[3]).all()
    manifest = json.loads((packed.root / "packed.json").read_text())
    assert [photo["path"] for photo in manifest["skipped"]] == ["bee/broken.jpg"]
    assert manifest["ignored"] == ["notes.txt"]
    assert manifest["classes"] == [[name, name] for name in ("ant", "bee", "cat")]


def test_training_sees_the_same_squares_and_mean_in_a_folder_and_packed(image_set, packed):
    (image_set.root / "bee" / "broken.jpg").unlink()
    folder, chosen = find_images(image_set.root), np.array([5, 0, 17, 3])
    with ThreadPoolExecutor(2) as pool:
        assert np.array_equal(read_squares(folder, chosen, pool), read_squares(packed, chosen, pool))
        assert np.array_equal(mean_image(folder, pool, False), packed.mean)


def test_mining_finds_the_same_in_a_folder_and_packed_and_makes_an_atlas(packed, small_network, tmp_path):
    for index, path in enumerate(packed.paths):
        (tmp_path / "pngs" / path).parent.mkdir(parents=True, exist_ok=True)
        packed.read(index).save(tmp_path / "pngs" / path)
    result, expected = (
        {
            layer: [[(hit.path, hit.value, hit.row, hit.column) for hit in unit] for unit in mined[layer]]
            for layer in mined.layers
        }
        for mined in (mine(small_network, packed.root, batch_size=8), mine(small_network, tmp_path / "pngs", batch_size=8))
    )
    assert result == expected
    assert sum(map(len, result["conv2"])) > 20
    book = Atlas.build(small_network, packed.root, tmp_path / "atlas")
    assert {hit["image"] for hit in book.hits}
    assert book.description["images"]["read"] == len(packed)


def test_a_folder_of_packed_sets_says_which_to_pass(image_set, tmp_path):
    pack({"train": image_set, "val": image_set}, tmp_path / "packed")
    with pytest.raises(DeconvnetError, match=f"it holds packed sets, so pass {tmp_path / 'packed' / 'val'}"):
        find_images(tmp_path / "packed")


def test_threads_and_what_exists(image_set, packed, tmp_path):
    pack({"": image_set}, tmp_path / "one", workers=1)
    assert files(tmp_path / "one") == files(packed.root)
    with pytest.raises(UsageError, match="exists already"):
        pack({"": image_set}, packed.root)


def damage(file, damage_kind):
    content = bytearray(file.read_bytes())
    if damage_kind == "gone":
        return file.unlink()
    if damage_kind == "text":
        content = bytearray(b"[]")
    if damage_kind == "cut":
        del content[-1000 if len(content) > 2000 else -20 :]
    if damage_kind == "empty":
        content.clear()
    return file.write_bytes(content)


@pytest.mark.parametrize("damage_kind", ["gone", "text", "cut", "empty"])
@pytest.mark.parametrize("name", ["pixels.npy", "images.csv", "mean.npy", "packed.json"])
def test_a_damaged_set_is_one_sentence(packed, name, damage_kind):
    damage(packed.root / name, damage_kind)
    with pytest.raises(DeconvnetError, match=r"is not a whole packed set \(.*\): pack the photos again\.$"):
        open_packed(packed.root)


def test_other_labels_versions_and_pixels_are_seen(packed, small_network):
    table = packed.root / "images.csv"
    content = table.read_bytes()
    table.write_bytes(content.replace(b"ant/03", b"bee/03"))
    with pytest.raises(DeconvnetError, match=r"images\.csv is not what was written"):
        open_packed(packed.root)
    table.write_bytes(content)
    pixels = bytearray((packed.root / "pixels.npy").read_bytes())
    pixels[128 + 3 * 256 * 256 * 3 + 5] ^= 1
    (packed.root / "pixels.npy").write_bytes(pixels)
    mined = mine(small_network, packed.root, batch_size=8)
    assert mined.skipped == {3: "is damaged in the packed set: pack the photos again"}
    manifest = json.loads((packed.root / "packed.json").read_text())
    (packed.root / "packed.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(DeconvnetError, match="another version"):
        open_packed(packed.root)


@pytest.mark.slow
def test_killed_at_many_moments_it_becomes_what_it_would_have_been(photo_folder, tmp_path):
    for number, name in enumerate(["train", "val"]):
        for file in sorted(photo_folder.glob("*/*"))[number::2][:6]:
            (tmp_path / "k/photos" / name / file.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, tmp_path / "k/photos" / name / file.parent.name)
    program = Path(__file__).parents[1] / "helpers" / "killed_packing.py"
    where = {"PYTHONPATH": os.pathsep.join([str(program.parents[1]), os.environ.get("PYTHONPATH", "")])}
    words = [sys.executable, str(program), str(tmp_path / "k")]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | where, timeout=300)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["kills"] >= 5
    assert 2 <= result["kept"] < result["kills"]


def failing(original, call, number):
    calls = []

    def function(*arguments, **options):
        calls.append(1)
        if len(calls) == call:
            raise OSError(number, os.strerror(number))
        return original(*arguments, **options)

    return function


@pytest.mark.parametrize(
    ("name", "call", "kept"),
    [
        ("posix_fallocate", 1, False),
        ("pwrite", 1, False),
        ("pwrite", 2, False),
        ("pwrite", 9, True),
        *(("fsync", call, call > 3) for call in (1, 2, 3, 4, 39, 40, 41)),
    ],
)
def test_a_full_disk_leaves_nothing_that_reads_as_whole(image_set, packed, tmp_path, monkeypatch, name, call, kept):
    monkeypatch.setattr(pack_module, "SAVE_INTERVAL", -1)  # after every photo: two fsync, of pixels and of the state
    out = tmp_path / "full"
    with monkeypatch.context() as patch:
        patch.setattr(os, name, failing(getattr(os, name), call, errno.ENOSPC))
        with pytest.raises(DeconvnetError, match=r"written: No space left on device\.") as caught:
            pack({"": image_set}, out)
    assert not out.exists()
    assert (tmp_path / ".full.partial").exists() == kept
    assert [".full.partial" in note for note in getattr(caught.value, "__notes__", [])] == [True] * kept
    pack({"": image_set}, out)
    assert files(out) == files(packed.root)
    assert not (tmp_path / ".full.partial").exists()


def test_too_little_room_is_said_before_anything_is_decoded(image_set, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    with pytest.raises(DeconvnetError, match=r"has 0\.0 GB left, but the pixels take 0\.0 GB more: make room"):
        pack({"": image_set}, tmp_path / "packed")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_that_cannot_reserve(image_set, packed, tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "posix_fallocate", failing(os.posix_fallocate, 1, number))
    pack({"": image_set}, tmp_path / "other")
    assert files(tmp_path / "other") == files(packed.root)


@pytest.fixture
def stopped(image_set, tmp_path, monkeypatch):
    """A packing that was stopped after eight photos."""
    with monkeypatch.context() as patch:
        patch.setattr(pack_module, "SAVE_INTERVAL", -1)
        patch.setattr(os, "pwrite", failing(os.pwrite, 10, errno.EIO))
        with pytest.raises(DeconvnetError):
            pack({"": image_set}, tmp_path / "again")
    return tmp_path / "again"


def test_what_was_done_is_not_decoded_again(image_set, packed, stopped, monkeypatch):
    decoded = []
    monkeypatch.setattr(pack_module, "central_square", lambda photo: decoded.append(1) or central_square(photo))
    pack({"": image_set}, stopped)
    assert len(decoded) == len(image_set) - 8 - 1  # the broken one, which is among the others
    assert files(stopped) == files(packed.root)


def test_what_a_finished_packing_left_is_not_taken_for_work(image_set, packed, tmp_path, monkeypatch):
    """It was killed as it removed its folder, and the result was removed by hand: the pixels are gone."""
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *arguments, **options: None)
        pack({"": image_set}, tmp_path / "other")
    assert list(tmp_path.glob(".other.partial/done*"))
    shutil.rmtree(tmp_path / "other")
    assert files(pack({"": image_set}, tmp_path / "other")[""].root) == files(packed.root)


@pytest.mark.parametrize("change", ["resized", "added", "other sets"])
def test_photos_that_changed_in_between_are_refused(image_set, stopped, change):
    if change == "resized":
        Image.new("RGB", (9, 9)).save(image_set.file(0))
    if change == "added":
        Image.new("RGB", (9, 9)).save(image_set.root / "ant" / "new.png")
    result = find_images(image_set.root)
    sentence = r"with other photos, or with these before they were changed: .*remove that folder\.$"
    with pytest.raises(DeconvnetError, match=sentence):
        pack({"train": result, "val": result} if change == "other sets" else {"": result}, stopped)
    assert list(stopped.parent.glob(".again.partial/done*"))


def test_photos_that_go_while_they_are_read_stop_the_packing(image_set, tmp_path, monkeypatch):
    last = image_set.file(len(image_set) - 1)
    last.unlink()
    with pytest.raises(DeconvnetError, match=r"twin\.png has gone since the photos were listed"):
        pack({"": image_set}, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_no_readable_photo(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.jpg").write_bytes(b"no photo")
    with pytest.raises(DeconvnetError, match=r"None of the 1 photos in .* can be read: a\.jpg is not a JPEG"):
        pack(find_splits(tmp_path / "p"), tmp_path / "packed")


def test_the_command(image_set, tmp_path, deconvnet_command):
    code, out, _ = deconvnet_command("pack", image_set.root, "--out", tmp_path / "packed")
    assert code == 0
    assert out.splitlines()[:4] == [
        f"Wrote {tmp_path / 'packed'}: 18 photos of 3 classes.",
        "1 files are not photos by their name: notes.txt.",
        "1 photos could not be read and were skipped:",
        f"  bee/broken.jpg {UNREADABLE}",
    ]
    code, out, err = deconvnet_command("pack", image_set.root, "--out", tmp_path / "other", "--json")
    (result,) = json.loads(out)["sets"]
    assert (code, result["folder"], result["photos"]) == (0, str(tmp_path / "other"), 18)
    assert result["skipped"] == [{"path": "bee/broken.jpg", "reason": UNREADABLE}]
    assert "packing: 19 of 19" in err
    existing = image_set.root, "--out", tmp_path / "other"
    for words, code in ((existing, 2), ((tmp_path / "none", "--out", tmp_path / "x"), 1)):
        failed, out, err = deconvnet_command("pack", *words)
        assert (failed, out, err.count("\n")) == (code, "", 1)


def test_ctrl_c_keeps_what_is_done_and_says_so(image_set, packed, tmp_path, monkeypatch, deconvnet_command):
    def interrupted(photo, calls=[]):  # noqa: B006
        calls.append(1)
        if len(calls) == 12:
            os.kill(os.getpid(), signal.SIGINT)
        return central_square(photo)

    with monkeypatch.context() as patch:
        patch.setattr(pack_module, "SAVE_INTERVAL", -1)
        patch.setattr(pack_module, "central_square", interrupted)
        patch.setattr(pack_module, "_AHEAD_PER_THREAD", 1)
        code, out, err = deconvnet_command("pack", image_set.root, "--out", tmp_path / "out", "--workers", 1)
    assert (code, out) == (130, "")
    assert "deconvnet: Stopped. What is done so far is kept in" in err
    assert not (tmp_path / "out").exists()
    assert deconvnet_command("pack", image_set.root, "--out", tmp_path / "out")[0] == 0
    assert files(tmp_path / "out") == files(packed.root)


@pytest.mark.data
def test_real_photos(data, tmp_path):
    packed = pack(find_splits(data / "cats"), tmp_path / "packed")[""]
    for index in range(len(packed)):
        expected = central_square(find_images(data / "cats").read(index))
        assert (packed.square(index) == expected).all()
        assert packed.checksums[index] == f"{zlib.crc32(expected.tobytes()):08x}"
