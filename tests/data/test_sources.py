"""ImageNet as people have it on disk, made small: five classes whose ids are not in the order of WordNet ids."""

import io
import shutil
import tarfile

import numpy as np
import pytest
import scipy.io
from PIL import Image

from deconvnet.data import find_splits, pack
from deconvnet.errors import DeconvnetError, UsageError

WNIDS = {1: "n05", 2: "n01", 3: "n04", 4: "n02", 5: "n03"}
TRUTH = [3, 1, 4, 1, 5, 2, 2]


def png_bytes(number):
    """One flat colour tells photos apart."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 255 - number, 7)).save(file, "PNG")
    return file.getvalue()


def name(number):
    return f"ILSVRC2012_val_{number:08d}.JPEG"


TRAIN = {f"{wnid}/{wnid}_{n}.JPEG": png_bytes(10 * int(wnid[1:]) + n) for wnid in WNIDS.values() for n in (1, 2)}
VAL = {name(number): png_bytes(100 + number) for number in range(1, 8)}
#: What must come of it: each photo for validation under the class that its line of the ground truth names.
LABELLED = {f"{WNIDS[truth]}/{name(number)}": png_bytes(100 + number) for number, truth in enumerate(TRUTH, 1)}


def tar(contents, **odd):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as packed:
        for path, content in contents.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            for key, value in odd.get(path, {}).items():
                setattr(member, key, value)
            packed.addfile(member, io.BytesIO(content))
    return file.getvalue()


def class_tars(image_set):
    inner = {}
    for path, content in image_set.items():
        inner.setdefault(path.split("/")[0], {})[path.split("/")[1]] = content
    return {f"{wnid}.tar": tar(contents) for wnid, contents in inner.items()}


def write(folder, contents):
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def devkit(truth=TRUTH, wnids=WNIDS):
    kind = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("num_children", object)]
    rows = [(key, wnid, "a thing", 0) for key, wnid in wnids.items()] + [(6, "n00", "entity", 5)]
    meta = io.BytesIO()
    scipy.io.savemat(meta, {"synsets": np.array(rows, dtype=kind)[:, None]})
    lines = "".join(f"{line}\n" for line in truth).encode()
    return {"data/meta.mat": meta.getvalue(), "data/ILSVRC2012_validation_ground_truth.txt": lines}


def write_devkit(folder, packed=True, **different):
    contents = {f"ILSVRC2012_devkit_t12/{path}": content for path, content in devkit(**different).items()}
    if not packed:
        return write(folder, contents)
    with tarfile.open(folder / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as kit:
        for path, content in contents.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            kit.addfile(member, io.BytesIO(content))
    return None


def write_imagenet(folder, train="tar", val="tar"):
    write(folder, {f"train/{path}": content for path, content in TRAIN.items()} if train == "folder" else {})
    write(folder, {"ILSVRC2012_img_train.tar": tar(class_tars(TRAIN))} if train == "tar" else {})
    write(folder, {f"val/{path}": content for path, content in VAL.items()} if val == "flat" else {})
    write(folder, {f"val/{path}": content for path, content in LABELLED.items()} if val == "folder" else {})
    write(folder, {"ILSVRC2012_img_val.tar": tar(VAL)} if val == "tar" else {})


def check(image_set, expected):
    assert image_set.paths == tuple(sorted(expected))
    for index, path in enumerate(image_set.paths):
        assert image_set.num_bytes(index) == len(expected[path])
        assert image_set.read(index).getpixel((3, 3)) == Image.open(io.BytesIO(expected[path])).getpixel((3, 3))


@pytest.mark.parametrize("kit", ["packed", "unpacked"])
@pytest.mark.parametrize("val", ["tar", "flat", "folder"])
@pytest.mark.parametrize("train", ["tar", "folder"])
def test_every_layout_gives_the_same_sets(tmp_path, train, val, kit):
    write_imagenet(tmp_path, train, val)
    write_devkit(tmp_path, kit == "packed")
    sets = find_splits(tmp_path)
    check(sets["train"], TRAIN)
    check(sets["val"], LABELLED)
    assert list(sets) == ["train", "val"]
    assert len({sets[name].digest for name in sets} | {find_splits(tmp_path)[name].digest for name in sets}) == 2


@pytest.mark.parametrize("which", ["val", "ILSVRC2012_img_val.tar", "ILSVRC2012_img_train.tar", "train"])
def test_one_set_may_be_passed_alone_with_the_kit_beside_it(tmp_path, which):
    write_imagenet(tmp_path)
    write_imagenet(tmp_path, "folder", "flat")
    write_devkit(tmp_path)
    check(find_splits(tmp_path / which)[""], TRAIN if "train" in which else LABELLED)


def test_other_photos_are_one_set(tmp_path):
    write(tmp_path, {"b.png": png_bytes(1), "a.png": png_bytes(2)})
    assert find_splits(tmp_path)[""].paths == ("a.png", "b.png")


def test_what_a_tar_calls_its_files_harms_nothing(tmp_path):
    file = tmp_path / "sub" / "ILSVRC2012_img_val.tar"
    link = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd", "size": 0}
    names = ["../../evil.png", "/evil2.png", "a/b/c.png", "._a.png", ".hidden/../d.png", "link.png", "notes.txt", "..", "."]
    write(file.parent, {file.name: tar({n: png_bytes(i) for i, n in enumerate(names)}, **{"link.png": link})})
    before = sorted(tmp_path.rglob("*"))
    image_set = find_splits(file)[""]
    check(image_set, {"evil.png": png_bytes(0), "evil2.png": png_bytes(1), "c.png": png_bytes(2), "d.png": png_bytes(4)})
    assert image_set.ignored == ("link.png", "notes.txt")
    pack({"": image_set}, tmp_path / "packed")
    assert [path for path in sorted(tmp_path.rglob("*")) if tmp_path / "packed" not in (path, *path.parents)] == before


def _kit(**different):
    return lambda folder: write_devkit(folder, **different)


def _cut(place):
    def cut(folder):
        file = folder / "ILSVRC2012_img_train.tar"
        content = tar(class_tars(TRAIN))
        file.write_bytes(content[:place] if place else content[:10240])  # at the end of a class tar too

    return cut


def _inner(**contents):
    def change(folder):
        write(folder, {"ILSVRC2012_img_train.tar": tar({**class_tars(TRAIN), **contents})})

    return change


CUT = tar({"n1.JPEG": png_bytes(1), "n2.JPEG": png_bytes(2)})


@pytest.mark.parametrize(
    ("train", "val", "change", "sentence"),
    [
        ("tar", "tar", lambda folder: None, "nothing says what they show: put ImageNet's ILSVRC2012_devkit_t12.tar.gz into"),
        ("folder", "flat", lambda folder: None, "nothing says what they show"),
        ("tar", "", lambda folder: None, "there is neither val/ nor ILSVRC2012_img_val.tar"),
        ("", "tar", lambda folder: None, "there is neither train/ nor ILSVRC2012_img_train.tar"),
        ("tar", "tar", _kit(truth=TRUTH[:-1]), "has 7 photos, but .* says what 6 show"),
        ("folder", "flat", _kit(truth=[*TRUTH, 1]), "has 7 photos, but .* says what 8 show"),
        ("tar", "tar", _kit(truth=[*TRUTH[:-1], 9]), r"is not .* development kit \(a photo shows none of its classes\)"),
        ("tar", "folder", _kit(wnids={**WNIDS, 7: "n09"}), "has 5 classes, but .* has 6: n09 is missing"),
        ("folder", "folder", _kit(wnids={k: WNIDS[k] for k in range(1, 5)}, truth=[1]), "has 5 .* has 4: n03 is not"),
        ("tar", "folder", lambda folder: shutil.rmtree(folder / "val/n02"), "1 have no photo in val, such as n02"),
        ("folder", "folder", lambda folder: shutil.rmtree(folder / "train/n03"), "1 have no photo in train, such as n03"),
        ("folder", "folder", lambda folder: write(folder, {"val/loose.png": png_bytes(1)}), "class folders.*loose.png"),
        ("", "folder", _cut(5000), "ILSVRC2012_img_train.tar is not a whole tar file"),
        ("", "folder", _cut(None), "ILSVRC2012_img_train.tar is not a whole tar file"),
        ("", "folder", _cut(100), "ILSVRC2012_img_train.tar is not a whole tar file"),
        ("", "folder", _inner(**{"n01.tar": CUT[:1024]}), "n01.tar, which .* whole tar file .it stops before"),
        ("", "folder", _inner(**{"n01.tar": b"no tar"}), "n01.tar, which is in .*, is not a whole tar file"),
        ("", "folder", _inner(**{"n01.tar": tar({"notes.txt": b"x"})}), "n01.tar, which is in .*, holds no photo"),
        ("", "folder", lambda folder: write(folder, {"ILSVRC2012_img_train.tar": tar({"a.txt": b""})}), "no photo in"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_one_sentence(tmp_path, train, val, change, sentence):
    write_imagenet(tmp_path, train, val)
    change(tmp_path)
    with pytest.raises(DeconvnetError, match=sentence) as caught:
        find_splits(tmp_path)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("odd", ["ILSVRC2012_val_00000008.JPEG", "ILSVRC2012_val_00000001.png", "cat.png"])
def test_a_validation_photo_too_odd_to_be_matched(tmp_path, odd):
    write_imagenet(tmp_path, "folder", "flat")
    write_devkit(tmp_path)
    (tmp_path / "val" / name(2)).rename(tmp_path / "val" / odd)
    with pytest.raises(DeconvnetError, match="one photo of each number from 1 to 7"):
        find_splits(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no kit", tar({"a": b"x"})])
def test_a_damaged_kit(tmp_path, content):
    write_imagenet(tmp_path)
    write(tmp_path, {"ILSVRC2012_devkit_t12.tar.gz": content})
    with pytest.raises(DeconvnetError, match="is not ImageNet 2012's development kit"):
        find_splits(tmp_path)


def test_a_tar_with_a_negative_size_is_refused(tmp_path):
    content = bytearray(tar({"a.png": bytes(2048)}))
    content[124:136] = b"\xff" * 10 + (0x10000 - 1024).to_bytes(2)  # -1024
    header = bytes(content[:148]) + b" " * 8 + bytes(content[156:512])
    content[148:156] = b"%06o\0 " % sum(header)
    write(tmp_path, {"ILSVRC2012_img_val.tar": bytes(content)})
    with pytest.raises(DeconvnetError, match="not a whole tar file"):
        find_splits(tmp_path / "ILSVRC2012_img_val.tar")


def test_packed_sets_are_not_packed_again(tmp_path):
    write_imagenet(tmp_path / "i", "folder", "folder")
    pack(find_splits(tmp_path / "i"), tmp_path / "packed")
    for place in ("packed", "packed/val"):
        with pytest.raises(UsageError, match="is a packed set already"):
            find_splits(tmp_path / place)
