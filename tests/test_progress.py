"""Progress, on a terminal and where nobody watches."""

import sys

from deconvnet import progress


def test_a_log_has_a_line_now_and_then_and_one_at_the_end(capsys, monkeypatch):
    clock = iter([0.0, 10.0, 31.0, 40.0, 50.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.progress_bar("mining", 1000, True, done=200) as advance:
        for steps in (100, 210, 90, 400):
            advance(steps)
    assert capsys.readouterr().err.splitlines() == [
        "mining: 510 of 1,000, 10.0/s, 0:00:49 left",
        "mining: 1,000 of 1,000, 16.0/s, 0:00:00 left",
    ]


def test_nothing_is_shown_unasked(capsys):
    with progress.progress_bar("mining", 10, False) as advance:
        advance(10)
    assert capsys.readouterr().err == ""


def test_an_activity_is_shown_on_a_terminal_only(capsys, monkeypatch):
    with progress.activity("Loading") as now:
        now("Drawing")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with progress.activity("Loading [red]\x1b[2J") as now:
        print("half of it", end="\r", file=sys.stderr, flush=True)  # as bars of downloads do
        now("Drawing")
    out, err = capsys.readouterr()
    assert not out
    lines = ["Loading [red]\\x1b[2J …", "half of it", "Drawing …", ""]
    assert err == "\r".join(["", f"\x1b[2K{lines[0]}", lines[1], "", f"\x1b[2K{lines[2]}", "", f"\x1b[2K{lines[3]}", ""])
