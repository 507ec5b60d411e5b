"""How many cores there are, and settings of the process that threads share."""

import os

import pytest

from deconvnet import environment
from deconvnet.environment import core_count, shared_context


@pytest.mark.parametrize(
    ("cores", "processes", "count"),
    [(8, None, 8), (8, "", 8), (8, "1", 8), (8, "2", 4), (8, "3", 2), (2, "4", 1), (8, "0", 8), (8, "two", 8), (0, None, 1)],
)
def test_processes_of_torchrun_share_the_cores(monkeypatch, cores, processes, count):
    monkeypatch.setattr(environment, "_usable_cores", lambda: cores)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if processes is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert core_count() == count


@pytest.mark.parametrize(
    ("has", "count"), [(["process_cpu_count", "sched_getaffinity"], 3), (["sched_getaffinity"], 2), ([], 64)]
)
def test_cores_that_the_process_may_not_use_do_not_count(monkeypatch, has, count):
    functions = {"process_cpu_count": lambda: 3, "sched_getaffinity": lambda process: {0, 5}}
    for name, function in functions.items():
        if name in has:
            monkeypatch.setattr(os, name, function, raising=False)
        else:
            monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert core_count() == count


def test_a_shared_context_is_entered_once_and_left_by_the_last():
    calls = []

    @shared_context
    def setting():
        calls.append("change")
        yield len(calls)
        calls.append("restore")

    first, second = setting(), setting()
    assert first.__enter__() == 1
    assert second.__enter__() == 1
    first.__exit__(None, None, None)
    assert calls == ["change"]
    second.__exit__(None, None, None)
    assert calls == ["change", "restore"]
    with setting() as value:
        assert value == 3
    assert calls == ["change", "restore"] * 2
