"""Which GPU a process gets, which commands run under torchrun, and how processes end when one of them fails."""

import os
import socket
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import typer

from deconvnet import cli
from deconvnet.cli.app import SHARING, app
from deconvnet.distributed import Processes, local_device
from deconvnet.errors import DeconvnetError, UsageError

COMMANDS = sorted(typer.main.get_command(app).commands)


@pytest.fixture
def _two_processes(monkeypatch):
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "x", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("_two_processes")
def test_each_process_of_a_machine_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert local_device("cuda") == torch.device("cuda", 1)
    assert local_device("cuda:0") == torch.device("cuda", 0)  # as asked for
    assert local_device("cpu") == torch.device("cpu")


@pytest.mark.usefixtures("_two_processes")
def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match=r"fewer GPUs \(1\) than processes"):
        local_device("cuda")


def test_a_single_process_takes_the_current_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert local_device("cuda") == torch.device("cuda")


def test_without_a_device_it_is_a_gpu_if_there_is_one(monkeypatch):
    for is_there, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda is_there=is_there: is_there)
        assert local_device() == torch.device(device)


# Commands


@pytest.mark.usefixtures("_two_processes")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_either_shares_its_work_or_refuses_to_run_several_times(name, deconvnet_command):
    code, out, err = deconvnet_command(name)
    assert code == 2
    assert out == ""
    assert ("runs in one process: start it without torchrun, which is for train" in err) is (name not in SHARING), err


@pytest.mark.parametrize("name", COMMANDS)
def test_the_commands_that_share_are_those_that_ask_for_the_other_processes(name):
    source = (Path(cli.__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    assert ("Processes.from_environment()" in source) is (name in SHARING)


def test_torchrun_with_one_process_runs_every_command(deconvnet_command, monkeypatch):
    for variable, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "x", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(variable, value)
    assert deconvnet_command("networks", "--json")[0] == 0


# When one process fails

#: A process fails within a process group, while the other waits for it; `argv[1]` says how.
FAILING = """
import sys, torch, torch.distributed as dist
from deconvnet.distributed import Processes
from deconvnet.errors import DeconvnetError

processes = Processes.from_environment()
try:
    with processes.process_group(torch.device("cpu")):
        processes.all_reduce_sum(1.0)
        if processes.rank == 1:
            raise DeconvnetError("The disk is full.")
        if sys.argv[1] == "gradients":
            dist.all_reduce(torch.ones(1))
        else:
            processes.all_reduce_sum(1.0)
except DeconvnetError as error:
    sys.exit(f"{error}, {dist.is_initialized()}")
"""


def run_two(program, *arguments):
    """Run a program as two processes; returns the exit code and standard error of each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)],
            env=environment | {"RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    errors = [process.communicate(timeout=200)[1] for process in started]
    return [(process.returncode, error) for process, error in zip(started, errors, strict=True)]


@pytest.mark.parametrize("waits_for", ["gradients", "results"])
def test_when_one_process_fails_all_end_with_a_message(waits_for):
    (lost_code, lost), (failed_code, failed) = run_two(FAILING, waits_for)
    assert (lost_code, failed_code) == (1, 1)
    assert failed.splitlines()[-1] == "The disk is full., False"
    expected = "Process 0 of 0–1 has lost another one, which should have said why it ended., False"
    assert lost.splitlines()[-1] == expected


@pytest.mark.parametrize("error", [None, DeconvnetError("no photo"), KeyboardInterrupt()])
def test_a_group_is_aborted_before_it_is_destroyed_only_if_there_is_an_error(error, monkeypatch):
    """Under NCCL to destroy it would wait for the others, which need not come: they do not know of the error."""
    calls = []
    world = SimpleNamespace(abort=lambda: calls.append("abort"))
    monkeypatch.setattr(dist, "init_process_group", lambda backend: calls.append(backend))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: calls.append("destroy"))
    monkeypatch.setattr(dist, "group", SimpleNamespace(WORLD=world))
    with (
        pytest.raises(type(error)) if error else nullcontext(),
        Processes(0, 2).process_group(torch.device("cpu")),
    ):
        if error:
            raise error
    assert calls == (["gloo", "abort", "destroy"] if error else ["gloo", "destroy"])


# While the first draws an atlas

#: Builds an atlas. The first process draws only once the other has returned, and fails if that takes long.
DRAWING = """
import sys, time
from pathlib import Path
from deconvnet.atlas import build
from deconvnet.distributed import Processes
from helpers.small_network import make_small_network

photos, returned = Path(sys.argv[1]), Path(sys.argv[2])
draw_units = build.draw_units

def wait_and_draw(*arguments, **options):
    end = time.monotonic() + 100
    while not returned.exists():
        assert time.monotonic() < end, "the other process has not returned"
        time.sleep(0.05)
    draw_units(*arguments, **options)

build.draw_units = wait_and_draw
processes = Processes.from_environment()
out = returned.with_name("atlas")
build.build_atlas(make_small_network(), photos, out, ["conv1"], [0, 1], processes=processes)
if not processes.is_first:
    assert not out.exists()
    returned.touch()
"""


def test_others_return_before_the_first_draws(photo_folder, tmp_path):
    """So that they hold neither a GPU nor memory meanwhile."""
    assert [code for code, _ in run_two(DRAWING, photo_folder, tmp_path / "returned")] == [0, 0]
    assert (tmp_path / "atlas" / "index.html").exists()
