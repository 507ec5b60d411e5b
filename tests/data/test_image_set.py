"""Folders of photos: what is found in them, in which order, and what is said where nothing is."""

import os
from pathlib import Path

import pytest

from deconvnet.data import find_images
from deconvnet.errors import DeconvnetError


@pytest.fixture
def folder(tmp_path):
    """A function that makes a folder holding the files of the given names; only names matter here, so they are tiny."""

    def make(*names):
        root = tmp_path / "photos"
        root.mkdir(exist_ok=True)
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"photo")
        return root

    return make


def test_a_flat_folder_is_ordered_by_name_and_has_no_classes(folder):
    image_set = find_images(folder("b.jpg", "a.png", "c.webp", "B.bmp"))
    assert image_set.paths == ("B.bmp", "a.png", "b.jpg", "c.webp")
    assert image_set.labels == ("", "", "", "")
    assert image_set.classes == ()
    assert len(image_set) == 4


def test_class_folders_are_labels(folder):
    image_set = find_images(folder("dog/2.jpg", "cat/9.jpg", "dog/1.jpg", "cat/10.jpg"))
    assert image_set.paths == ("cat/10.jpg", "cat/9.jpg", "dog/1.jpg", "dog/2.jpg")
    assert image_set.labels == ("cat", "cat", "dog", "dog")
    assert image_set.classes == ("cat", "dog")


def test_photos_beside_class_folders_have_no_label(folder):
    image_set = find_images(folder("cat/a.jpg", "b.jpg"))
    assert image_set.paths == ("b.jpg", "cat/a.jpg")
    assert image_set.labels == ("", "cat")
    assert image_set.classes == ("cat",)


def test_the_order_is_that_of_the_whole_relative_path(folder):
    assert find_images(folder("a/z.jpg", "a-b/a.jpg", "a.jpg")).paths == ("a-b/a.jpg", "a.jpg", "a/z.jpg")


def test_a_photo_lies_where_its_path_says(folder):
    root = folder("cat/a.jpg", "dog/b.jpg")
    image_set = find_images(root)
    assert [image_set.file(index) for index in range(2)] == [root / "cat/a.jpg", root / "dog/b.jpg"]


def test_hidden_files_and_folders_are_passed_over(folder):
    image_set = find_images(folder("a.jpg", ".b.jpg", ".thumbnails/c.jpg", "cat/.d.jpg", ".DS_Store"))
    assert image_set.paths == ("a.jpg",)
    assert image_set.ignored == ()


def test_other_files_are_listed_as_ignored(folder):
    image_set = find_images(folder("cat/a.jpg", "notes.txt", "cat/labels.csv", "cat/film.mp4", "README"))
    assert image_set.paths == ("cat/a.jpg",)
    assert image_set.ignored == ("README", "cat/film.mp4", "cat/labels.csv", "notes.txt")


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff", "avif"])
def test_suffixes_count_in_any_case(folder, suffix):
    root = folder(f"a.{suffix}", f"b.{suffix.upper()}", f"c.{suffix.title()}")
    assert len(find_images(root)) == 3


def test_a_folder_that_looks_like_a_photo_by_its_name_is_a_class(folder):
    assert find_images(folder("odd.jpg/a.jpg")).paths == ("odd.jpg/a.jpg",)


def test_photos_pass_through(folder):
    image_set = find_images(folder("a.jpg"))
    assert find_images(image_set) is image_set


def test_a_folder_may_be_a_string(folder):
    root = folder("a.jpg")
    assert find_images(str(root)).paths == find_images(root).paths


def refusal(images):
    with pytest.raises(DeconvnetError) as caught:
        find_images(images)
    sentence = str(caught.value)
    assert sentence.endswith((".", ")."))
    return sentence


def test_a_missing_folder_says_which(tmp_path):
    assert f"There is no folder {tmp_path / 'nowhere'}" in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a.jpg", "is one photo: pass the folder that it lies in."),
        ("a.txt", "is a file, not a folder: pass the folder that the photos lie in."),
        *(
            (f"val{suffix}", "is an archive: unpack it and pass")
            for suffix in (".zip", ".tar", ".tar.gz", ".TGZ", ".7z", ".rar")
        ),
    ],
)
def test_a_file_instead_of_a_folder_says_what_to_pass(folder, name, sentence):
    file = folder(name) / name
    assert refusal(file).startswith(f"{file} {sentence}")


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        (["n01440764.tar", "cat/b.zip", "notes.txt"], "(unpack cat/b.zip and 1 more and pass the folder that comes out)"),
        (["IMG_1.HEIC", "IMG_2.MOV"], "(convert IMG_1.HEIC to JPEG)"),
        (["cat/IMG_1.HEIC", "DSC_1.NEF"], "(convert DSC_1.NEF and 1 more to JPEG)"),
        (["a/b/c.jpg", "a.zip"], "a)"),
        ([".a.jpg", "cat/.b.jpg", ".c/d/e.jpg", "cat/.dog/f.jpg"], "(it takes .avif, .bmp, "),
    ],
)
def test_a_folder_without_photos_says_what_could_become_some(folder, names, hint):
    assert hint in refusal(folder(*names))


def test_pipes_and_links_that_lead_nowhere_are_kept_to_be_named(folder):
    root = folder("a.jpg", "cat/b.jpg")
    (root / "cat" / "nothing.jpg").symlink_to("nowhere")
    (root / "circle.jpg").symlink_to("circle.jpg")
    (root / "circle").symlink_to("circle")
    os.mkfifo(root / "pipe.jpg")
    image_set = find_images(root)
    assert image_set.paths == ("a.jpg", "cat/b.jpg", "cat/nothing.jpg", "circle.jpg", "pipe.jpg")
    assert image_set.ignored == ("circle",)
    assert len(image_set.digest) == 64


def test_links_are_followed_one_level_deep(folder, tmp_path):
    root = folder("a.jpg")
    (root / "again").symlink_to(root)
    (root / "same.jpg").symlink_to("a.jpg")
    assert find_images(root).paths == ("a.jpg", "again/a.jpg", "again/same.jpg", "same.jpg")


def test_a_folder_that_may_not_be_opened_is_named(folder, monkeypatch):
    root = folder("a.jpg", "lost+found/b.jpg")
    listing = os.scandir

    def refuse(path):
        if Path(path).name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may open everything
    image_set = find_images(root)
    assert (image_set.paths, image_set.ignored) == (("a.jpg",), ("lost+found/",))
    with pytest.raises(DeconvnetError, match=r"^The folder .*lost\+found cannot be opened \(Permission denied\)\.$"):
        find_images(root / "lost+found")


def test_an_empty_folder_says_which_files_would_do(folder):
    root = folder()
    sentence = refusal(root)
    assert f"There is no photo in {root}" in sentence
    assert ".jpeg" in sentence


def test_a_folder_of_other_files_only_counts_as_empty(folder):
    assert "There is no photo" in refusal(folder("notes.txt", "cat/film.mp4"))


def test_photos_too_deep_say_which_folder_to_pass(folder):
    root = folder("imagenet/val/cat/a.jpg", "notes.txt")
    sentence = refusal(root)
    assert f"photos lie deeper, so pass {root / 'imagenet/val'})" in sentence
    assert find_images(root / "imagenet/val").paths == ("cat/a.jpg",)


def test_of_two_sets_the_one_to_look_at_is_named_and_atlases_hold_no_photos(folder):
    root = folder("demo/alexnet/atlas.json", "demo/alexnet/conv1/0001.webp", "sets/train/cat/a.jpg", "sets/val/cat/b.jpg")
    assert f"photos lie deeper, so pass {root / 'sets/val'})" in refusal(root)
    assert "photos lie deeper" not in refusal(root / "demo")


def test_a_list_of_files_is_ordered_by_path_below_their_common_folder(folder):
    root = folder("dog/2.jpg", "cat/9.jpg", "c.jpg", "unused.jpg")
    image_set = find_images([root / "dog/2.jpg", str(root / "c.jpg"), root / "cat/9.jpg", root / "c.jpg"])
    assert image_set.root == root
    assert image_set.paths == ("c.jpg", "cat/9.jpg", "dog/2.jpg")


def test_a_list_of_one_file(folder):
    image_set = find_images([folder("cat/a.jpg") / "cat/a.jpg"])
    assert image_set.paths == ("a.jpg",)
    assert image_set.file(0).read_bytes() == b"photo"


def test_a_list_may_hold_relative_paths(folder, monkeypatch):
    monkeypatch.chdir(folder("cat/a.jpg", "dog/b.jpg"))
    image_set = find_images([Path("cat/a.jpg"), "dog/b.jpg"])
    monkeypatch.chdir("/")
    assert image_set.paths == ("cat/a.jpg", "dog/b.jpg")
    assert image_set.file(1).read_bytes() == b"photo"


def test_a_list_with_a_missing_file_says_which(folder):
    root = folder("a.jpg")
    assert f"There is no file {root / 'b.jpg'}" in refusal([root / "a.jpg", root / "b.jpg"])


def test_an_empty_list_is_refused():
    assert refusal([]) == "The list of photos is empty."


def test_the_digest_stays_until_a_file_is_added_renamed_or_resized(folder):
    root = folder("a.jpg", "cat/b.jpg")
    first = find_images(root).digest
    assert find_images(root).digest == first
    assert len(first) == 64

    (root / "c.jpg").write_bytes(b"photo")
    added = find_images(root).digest
    (root / "c.jpg").rename(root / "d.jpg")
    renamed = find_images(root).digest
    (root / "d.jpg").write_bytes(b"another photo")
    resized = find_images(root).digest
    assert len({first, added, renamed, resized}) == 4


def test_the_digest_does_not_depend_on_where_the_folder_lies_or_on_ignored_files(folder, tmp_path):
    root = folder("a.jpg", "cat/b.jpg")
    before = find_images(root).digest
    root = root.rename(tmp_path / "elsewhere")
    (root / "notes.txt").write_text("x")
    assert find_images(root).digest == before


@pytest.mark.data
def test_the_imagenette_validation_set_has_its_ten_classes(data):
    image_set = find_images(data / "imagenette" / "val")
    assert len(image_set) == 3925
    assert len(image_set.classes) == 10
    assert image_set.ignored == ()


def test_an_atlas_among_the_photos_is_no_class(tmp_path):
    for name in ("atlas/atlas.json", "atlas/figure-conv1.png", "cat/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    image_set = find_images(tmp_path)
    assert image_set.paths == ("cat/1.jpg",)
    assert image_set.ignored == ("atlas/",)
