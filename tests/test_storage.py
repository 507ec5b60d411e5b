"""Files and work folders: what errors and kills leave behind, and who may resume it."""

import errno
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from deconvnet import storage
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.storage import (
    OtherWork,
    WorkFolder,
    atomic_path,
    atomic_write,
    first_difference,
    locked,
    read_json_object,
    write_json,
)

KILLED_AT_RENAME = """
import os, signal, sys
from pathlib import Path
from deconvnet.storage import atomic_write
sys.addaudithook(lambda event, _: os.kill(os.getpid(), signal.SIGKILL) if event == "os.rename" else None)
atomic_write(Path(sys.argv[1]), b"new")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_what_a_kill_leaves_beside_a_file_goes_with_the_next_save(tmp_path):
    file = tmp_path / "a.b.safetensors"
    file.write_bytes(b"old")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    killed = subprocess.run([sys.executable, "-c", KILLED_AT_RENAME, file], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert file.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    atomic_write(file, b"newer")
    assert file.read_bytes() == b"newer"
    assert list(tmp_path.iterdir()) == [file]


class Interrupted(Exception):
    pass


def write_half(file):
    file.write_bytes(b"half")
    raise Interrupted


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "new" / "a.png"
    with pytest.raises(Interrupted), atomic_path(file, ".png") as temporary:
        write_half(temporary)
    assert list(file.parent.iterdir()) == []
    with atomic_path(file, ".png") as temporary:
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"whole")
    assert file.read_bytes() == b"whole"
    with pytest.raises(UsageError, match=r"a\.png should end in \.pdf or \.svg\."), atomic_path(file, ".pdf", ".svg"):
        pass
    with pytest.raises(DeconvnetError, match=r"b\.json cannot be written: "):
        atomic_write(file / "b.json", b"")


def test_json(tmp_path):
    write_json(tmp_path / "a.json", {"name": "é", "pair": (1, 2)})
    assert read_json_object(tmp_path / "a.json") == {"name": "é", "pair": [1, 2]}
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(ValueError, match="no JSON object"):
        read_json_object(tmp_path / "a.json")
    assert first_difference({"a": 1, "pair": [1, 2], "only here": 0}, {"a": 1, "pair": (1, 2)}) == ""
    assert first_difference({"a": 1}, {"a": 1, "b": None, "c": 0}) == "c"


KEY = {"network": "one", "top": 9}


def attempt(work, *, is_saved=False, fails=True, key=KEY):
    """One run: saves "state" if `is_saved`, then fails or publishes what it read from "state"."""
    state = work.path / "state"

    def difference(record):
        return first_difference(record["key"], key) and f"another {first_difference(record['key'], key)}"

    with work.open(state.exists):
        work.begin({"key": key}, difference, state.exists())
        if is_saved:
            state.write_text("saved")
        if fails:
            raise Interrupted
        if not work.in_place:
            (work.path / "result").mkdir()
            (work.path / "result" / "content").write_text(state.read_text() if state.exists() else "from the start")
            work.publish(work.path / "result")


@pytest.fixture
def hidden(tmp_path):
    return WorkFolder(tmp_path / "out", "atlas")


@pytest.fixture
def in_place(tmp_path):
    return WorkFolder(tmp_path / "out", "training run", "run.json", in_place=True, activity="training in")


def test_a_result_appears_complete_and_its_work_folder_goes(hidden, tmp_path):
    hidden.out.mkdir()  # an empty folder may be there
    attempt(hidden, fails=False)
    assert list(tmp_path.iterdir()) == [hidden.out]
    assert (hidden.out / "content").read_text() == "from the start"
    with pytest.raises(UsageError, match=r"out exists already: choose another --out, or remove it first\."):
        attempt(hidden, fails=False)
    assert list(tmp_path.iterdir()) == [hidden.out]


@pytest.mark.parametrize("kind", ["hidden", "in_place"])
def test_without_work_a_failure_leaves_nothing(kind, request, tmp_path):
    with pytest.raises(Interrupted) as caught:
        attempt(request.getfixturevalue(kind))
    assert list(tmp_path.iterdir()) == []
    assert not hasattr(caught.value, "__notes__")


def test_work_is_kept_resumed_and_removed(hidden, tmp_path):
    with pytest.raises(Interrupted) as caught:
        attempt(hidden, is_saved=True)
    assert caught.value.__notes__ == [
        f"What is done so far is kept in {tmp_path / '.out.partial'}: the same command goes on with it, or begins anew if "
        "you remove that folder."
    ]
    assert sorted(path.name for path in hidden.path.iterdir()) == ["state", "work.json"]
    attempt(hidden, fails=False)
    assert (hidden.out / "content").read_text() == "saved"
    assert list(tmp_path.iterdir()) == [hidden.out]


def test_other_work_is_refused_and_kept_unless_there_is_nothing_in_it(hidden):
    with pytest.raises(Interrupted):
        attempt(hidden, is_saved=True)
    with pytest.raises(OtherWork, match=r"holds an unfinished atlas with another top: .* remove that folder\.$") as caught:
        attempt(hidden, key={**KEY, "top": 3}, fails=False)
    assert not hasattr(caught.value, "__notes__")
    assert (hidden.path / "state").exists()
    (hidden.path / "state").unlink()
    attempt(hidden, key={**KEY, "top": 3}, fails=False)
    assert (hidden.out / "content").read_text() == "from the start"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"key": 3}', '{"key": {"network"'])
def test_a_damaged_record_is_refused(hidden, content):
    with pytest.raises(Interrupted):
        attempt(hidden, is_saved=True)
    (hidden.path / "work.json").write_text(content)
    with pytest.raises(OtherWork, match=r"with a damaged work\.json"):
        attempt(hidden)
    assert (hidden.path / "state").exists()


def test_an_error_that_says_what_to_do_gets_no_second_note(hidden):
    class Hopeless(Exception):
        can_resume = False

    for error in (Hopeless(), ValueError()):
        if isinstance(error, ValueError):
            error.add_note("Remove it.")
        with pytest.raises(type(error)) as caught, hidden.open(lambda: True):
            raise error
        assert getattr(caught.value, "__notes__", []) == (["Remove it."] if isinstance(error, ValueError) else [])


def test_in_place_work_lies_in_the_result(in_place, tmp_path):
    with pytest.raises(Interrupted) as caught:
        attempt(in_place, is_saved=True)
    assert caught.value.__notes__ == [f"What is done so far is kept in {in_place.out}: the same command goes on with it."]
    assert list(tmp_path.iterdir()) == [in_place.out]
    with pytest.raises(OtherWork, match=r"out holds a training run with another top: go on with the command that began it"):
        attempt(in_place, key={**KEY, "top": 3})
    attempt(in_place, fails=False)
    assert sorted(path.name for path in in_place.out.iterdir()) == ["run.json", "state"]
    assert json.loads((in_place.out / "run.json").read_text()) == {"key": KEY}


def test_in_place_a_foreign_folder_is_refused_and_kept(in_place):
    in_place.out.mkdir()
    (in_place.out / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"out exists already and is no training run: choose another --out\."):
        attempt(in_place)
    assert [path.name for path in in_place.out.iterdir()] == ["notes.txt"]
    (in_place.out / "notes.txt").unlink()
    with pytest.raises(Interrupted):
        attempt(in_place)
    assert in_place.out.exists()  # for it was there before
    (in_place.out / "run.json").unlink(missing_ok=True)
    in_place.out.rmdir()
    in_place.out.write_text("a file")
    with pytest.raises(UsageError, match="is no training run"):
        attempt(in_place)
    assert in_place.out.read_text() == "a file"


@pytest.mark.parametrize("kind", ["hidden", "in_place"])
def test_what_another_program_puts_there_meanwhile_is_kept(kind, request, monkeypatch):
    work = request.getfixturevalue(kind)

    @contextmanager
    def lock_late(file, refusal):
        work.out.mkdir()
        (work.out / "notes.txt").write_text("theirs")
        with locked(file, refusal):
            yield

    monkeypatch.setattr(storage, "locked", lock_late)
    with pytest.raises(UsageError, match="exists already"):
        attempt(work)
    assert [path.name for path in work.out.iterdir()] == ["notes.txt"]
    assert list(work.out.parent.iterdir()) == [work.out]


@pytest.mark.parametrize("kind", ["hidden", "in_place"])
def test_a_second_process_is_refused_and_harms_nothing(kind, request):
    work = request.getfixturevalue(kind)
    lock = work.path / (".lock" if work.in_place else "lock")
    activity = "training in" if work.in_place else "making"
    with locked(lock, ""):
        before = sorted(work.path.iterdir())
        with pytest.raises(DeconvnetError, match=f"^Another process is {activity} {work.out}: wait for it"):
            attempt(work)
        assert sorted(work.path.iterdir()) == before
    assert not lock.exists()


def test_a_folder_that_cannot_be_opened(in_place, monkeypatch):
    in_place.out.mkdir()

    def refused(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "listdir", refused)
    with pytest.raises(DeconvnetError, match=r"out cannot be opened: Permission denied\."):
        attempt(in_place)
