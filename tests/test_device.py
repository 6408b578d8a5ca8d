"""Which device computes, and with how many threads."""

import pytest
import torch

from hgrl.core.device import one_thread, pick_device
from hgrl.core.errors import InputError


@pytest.fixture
def machine(monkeypatch):
    """A function that pretends to have so many CUDA cards, and Apple's MPS or not."""

    def pretend(cards, mps=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cards > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize("cards, mps, expected", [(1, True, "cuda"), (0, True, "mps"), (0, False, "cpu")])
def test_auto_is_the_first_that_is_there(machine, cards, mps, expected):
    machine(cards, mps)
    assert pick_device("auto") == torch.device(expected)


def test_a_device_by_name(machine):
    machine(2)
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("cuda") == torch.device("cuda") and pick_device("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize("cards, name, told", [
    (0, "toaster", "'toaster' is no device; choose auto, cpu, cuda, cuda:N or mps"),
    (0, "cuda", "'cuda' is not on this machine (0 CUDA cards)"),
    (2, "cuda:7", "'cuda:7' is not on this machine (2 CUDA cards)"),
    (1, "mps", "'mps' is not on this machine"),
    (1, "xpu", "'xpu' is not on this machine"),
])  # fmt: skip
def test_a_device_that_is_not_there_is_one_line(machine, cards, name, told):
    machine(cards)
    with pytest.raises(InputError) as caught:
        pick_device(name)
    assert f"setting 'device': {told}" in str(caught.value) and "\n" not in str(caught.value)


def test_a_cpu_has_one_thread_for_a_while_and_a_card_leaves_threads_alone():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with one_thread(torch.device("cuda")):
            assert torch.get_num_threads() == 2
        with pytest.raises(KeyError), one_thread(torch.device("cpu")):
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
