"""Files of landmarks: what they say, and what is wrong with them."""

import json

import pytest

from deconvnet import DeconvnetError
from deconvnet.experiments.table1_correspondence import read_landmarks
from deconvnet.experiments.table1_correspondence.landmarks import Landmarks

CAT = {"nose": [3, 4.5], "ear": [1, 2], "size": [30, 20]}


def test_json_and_csv_say_the_same(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"x/cat.jpg": {"nose": [3, 4.5], "ear": [1, 2]}}))
    (tmp_path / "a.csv").write_text("image,part,x,y\nx/cat.jpg,nose,3,4.5\nx/cat.jpg,ear,1,2\n", encoding="utf-8-sig")
    expected = {"x/cat.jpg": Landmarks({"nose": (3.0, 4.5), "ear": (1.0, 2.0)})}
    assert read_landmarks(tmp_path / "a.json") == expected
    assert read_landmarks(tmp_path / "a.csv") == expected
    (tmp_path / "b.csv").write_text("x, y, image , part\n3, 4.5, x/cat.jpg, nose\n1, 2, x/cat.jpg, ear\n")
    assert read_landmarks(tmp_path / "b.csv") == expected


def test_a_size_is_no_part(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"cat.jpg": CAT}))
    assert read_landmarks(tmp_path / "a.json") == {"cat.jpg": Landmarks({"nose": (3.0, 4.5), "ear": (1.0, 2.0)}, (30, 20))}


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.json", "{", "is not JSON"),
        ("a.json", "[1]", "should be"),
        ("a.json", "{}", "names no photo"),
        ("a.json", '{"cat.jpg": {}}', r"cat\.jpg has no part"),
        ("a.json", '{"cat.jpg": {"nose": [1]}}', "two numbers"),
        ("a.json", '{"cat.jpg": {"nose": [1, NaN]}}', "two numbers"),
        ("a.json", '{"cat.jpg": {"nose": "ab"}}', "two numbers"),
        ("a.json", '{"a": {"nose": [1, 2]}, "b": {"ear": [1, 2]}}', "every photo needs the same"),
        ("a.csv", "image,prat,x,y\nc,nose,1,2\n", "line 1: the columns should be image,part,x,y, but are image,prat,x,y"),
        ("a.csv", "image;part;x;y\nc;nose;1;2\n", "but are image;part;x;y"),
        ("a.csv", "image,part,x,y\ncat.jpg,nose,1\n", "line 2, has no y"),
        ("a.csv", "image,part,x,y\ncat.jpg,nose,1,a\n", "two numbers"),
        ("a.csv", "image,part,x,y\nc,nose,1,2\nc,nose,1,2\n", "line 3: c has its nose twice"),
        ("a.csv", "", "but are none"),
        ("a.csv", "image,part,x,y\n", "names no photo"),
        ("a.txt", "image,part,x,y\nc,nose,1,2\n", "if it is CSV, call it .csv"),
        ("a.csv", "image,part,x,y\nc,nose,1,2,3\n", "line 2, has too many columns"),
        ("a.json", '{"a": {"nose": "12"}}', "two numbers"),
        ("a.json", '{"a": {"nose": [1, 2]}, "a": {"nose": [3, 4]}}', "has a twice"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, name, text, sentence):
    (tmp_path / name).write_text(text)
    with pytest.raises(DeconvnetError, match=sentence):
        read_landmarks(tmp_path / name)


def test_a_file_that_is_not_there_or_no_text(tmp_path):
    with pytest.raises(DeconvnetError, match="cannot be read"):
        read_landmarks(tmp_path / "none.json")
    (tmp_path / "photo.json").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(DeconvnetError, match="is no text"):
        read_landmarks(tmp_path / "photo.json")
