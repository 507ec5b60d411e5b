"""What the tests of tracing share."""

import pytest
import torch


@pytest.fixture(scope="module")
def one_thread():
    """For thousands of tiny operations, in which threads would mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
