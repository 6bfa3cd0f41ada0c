"""Devices that this machine may not have: which one is chosen, and what several processes and threads do there."""

import os
import socket
from types import SimpleNamespace

import pytest
import torch
from torch import distributed

from simple_llm import processes
from simple_llm.errors import UsageError
from simple_llm.machine import resolve_device
from simple_llm.proof.all_pairs import one_worker_a_core
from tests.forked import Forked


@pytest.fixture
def machine(monkeypatch):
    """Pretend that there are so many GPUs, or Apple's."""

    def has(num_gpus: int = 0, is_a_mac: bool = False, **environment: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: num_gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: is_a_mac)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return has


@pytest.mark.parametrize(
    ("name", "there", "device"),
    [
        *[("auto", {}, "cpu"), ("auto", {"num_gpus": 1}, "cuda"), ("cpu", {"num_gpus": 1}, "cpu")],
        *[("auto", {"is_a_mac": True}, "cpu"), ("mps", {"is_a_mac": True}, "mps")],
        *[("auto", {"num_gpus": 4, "LOCAL_RANK": "2"}, "cuda:2"), ("auto", {"num_gpus": 2, "LOCAL_RANK": "2"}, "cuda")],
        ("auto", {"LOCAL_RANK": "1"}, "cpu"),
    ],
)
def test_auto_is_a_gpu_of_cuda_or_the_cpu_and_of_several_gpus_each_process_has_its_own(machine, name, there, device):
    machine(**there)
    assert resolve_device(name) == torch.device(device)


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(machine, name):
    machine()
    with pytest.raises(UsageError, match=f"{name} is not available"):
        resolve_device(name)


@pytest.mark.parametrize(("name", "backend"), [("cpu", "gloo"), ("cuda", "cpu:gloo,cuda:nccl")])
def test_processes_meet_by_a_backend_for_the_cpu_too(machine, monkeypatch, name, backend):
    machine(num_gpus=2, WORLD_SIZE="2", RANK="0", LOCAL_RANK="0")
    asked = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda rank: None)
    monkeypatch.setattr(distributed, "init_process_group", asked.append)
    monkeypatch.setattr(distributed, "destroy_process_group", lambda: None)
    with processes.joined(torch.device(name)):
        assert asked == [backend]


def test_several_processes_on_mps_are_refused(machine):
    machine(is_a_mac=True, WORLD_SIZE="2", RANK="0")
    with pytest.raises(UsageError, match=r"set training\.device=cpu"), processes.joined(torch.device("mps")):
        pass


def test_flags_are_summed_on_the_cpu_where_torch_would_think_of_a_gpu_first():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def child(rank: str) -> None:
        torch._C._get_accelerator = lambda: torch.device("mps")
        os.environ.update(WORLD_SIZE="2", RANK=rank, LOCAL_RANK=rank, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        with processes.joined(torch.device("cpu")) as joined:
            assert joined.largest(int(rank) + 3) == 4
            assert not joined.agree(int(rank))

    both = [Forked(lambda rank=rank: child(rank)) for rank in ("0", "1")]
    for done in [one.end() for one in both]:
        assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize(("device", "num_workers"), [("cpu", 2), ("cuda", 1), ("mps", 1)])
def test_each_core_counts_and_a_gpu_is_asked_by_one_thread(machine, monkeypatch, device, num_workers):
    machine(num_gpus=1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    with one_worker_a_core(SimpleNamespace(type=device)) as pool:
        assert pool._max_workers == num_workers
