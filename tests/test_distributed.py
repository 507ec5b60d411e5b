"""Which GPU a process gets, and that seeding leaves others alone."""

import pytest
import torch

from deconvnet.distributed import local_device
from deconvnet.errors import UsageError


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
