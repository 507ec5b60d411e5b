"""Batches side by side give what one after the other gives, whatever the module does."""

import threading

import pytest
import torch
from torch import nn

from deconvnet.data import torchvision_preprocessing
from deconvnet.models import Network, cpu_parallel, parallel_map


class Keeping(nn.Module):
    """Keeps something from one line of its forward to the next, where another thread could change it."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 4, 3), nn.ReLU()
        self.kept = None

    def forward(self, x):
        self.kept = self.conv(x)
        for _ in range(20):  # time for others
            torch.randn(1000).sort()
        return self.relu(self.kept)


class Calling(nn.Module):
    """Holds a function that calls the original's parts, and is in training."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()
        self.relu = nn.ReLU()
        self.block = lambda x: self.drop(self.norm(self.conv(x)))

    def forward(self, x):
        return self.relu(self.block(x))


def network(module):
    return Network(module, torchvision_preprocessing(16, 16))


def double(net, x):
    return net.activations(x, "relu")


@pytest.mark.parametrize(("workers", "threads"), [(None, 5), (3, 3)])
def test_on_other_devices_threads_only_read_ahead(monkeypatch, workers, threads):
    monkeypatch.setattr(cpu_parallel, "reading_threads", lambda batch_size: {256: 5}[batch_size])
    started, read_in, computed_in = [], set(), set()
    prefetch = cpu_parallel.prefetch

    def recorded(read, items, threads, max_ahead):
        started.append((threads, max_ahead))
        return prefetch(read, items, threads, max_ahead)

    def here(threads):
        threads.add(threading.current_thread())

    monkeypatch.setattr(cpu_parallel, "prefetch", recorded)
    net = network(Keeping()).to("meta")
    results = list(
        parallel_map(net, lambda x: here(read_in) or x, lambda _, x: here(computed_in) or x, range(9), workers, 256)
    )
    assert results == list(range(9))
    assert started == [(threads, threads)]
    assert threading.main_thread() not in read_in
    assert computed_in == {threading.main_thread()}


@pytest.mark.parametrize("kind", [Keeping, Calling])
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_results_come_in_order_and_are_those_of_one_thread(kind, threads):
    net = network(kind().train())
    inputs = [torch.randn(2, 3, 16, 16) for _ in range(12)]
    wanted = [net.activations(x, "relu") for x in inputs]
    before = {name: tensor.clone() for name, tensor in net.module.state_dict().items()}
    found = list(parallel_map(net, lambda x: x, double, inputs, threads))
    assert all(torch.allclose(*pair, atol=1e-6) for pair in zip(found, wanted, strict=True))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.module.state_dict().items())
    assert net.module.training


def test_each_thread_has_a_module_of_its_own_around_the_same_weights():
    net, seen = network(Keeping()), {}

    def note(own, x):
        seen[threading.get_ident()] = own.module
        return double(own, x)

    list(parallel_map(net, lambda x: x, note, [torch.randn(1, 3, 16, 16)] * 20, 2))
    weights = {module.conv.weight.data_ptr() for module in seen.values()}
    assert weights == {net.module.conv.weight.data_ptr()}


@pytest.mark.parametrize("hooked", [True, False])
def test_a_module_with_hooks_runs_alone(hooked):
    net, modules = network(Keeping()), set()
    if hooked:
        net.module.conv.register_forward_hook(lambda *_: None)
    list(parallel_map(net, lambda x: x, lambda own, x: modules.add(id(own.module)), range(40), 2))
    assert len(modules) == 1 if hooked else len(modules) <= 2


class Uncopied(Keeping):
    def __deepcopy__(self, memo):
        raise TypeError("I am one of a kind")


def test_a_module_that_cannot_be_copied_runs_alone():
    net = network(Uncopied())
    found = list(parallel_map(net, lambda x: x, double, [torch.ones(1, 3, 16, 16)] * 8, 3))
    assert all(torch.equal(one, found[0]) for one in found)


def test_what_is_raised_comes_in_its_turn_and_threads_are_as_before():
    net, threads = network(Keeping()), torch.get_num_threads()

    def fail(own, x):
        if x == 2:
            raise ValueError("two")
        return x

    results = parallel_map(net, lambda x: x, fail, range(5), 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)
    assert torch.get_num_threads() == threads


def test_runs_at_the_same_time_leave_the_number_of_threads():
    threads = torch.get_num_threads()

    def run():
        return parallel_map(network(Keeping()), lambda x: x, lambda own, x: x, range(9), 2)

    first = run()
    next(first)
    other = threading.Thread(target=lambda: list(run()))
    other.start()
    other.join()
    first.close()
    new = []
    later = threading.Thread(target=lambda: new.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert torch.get_num_threads() == threads
    assert new == [threads]
