"""Where the arithmetic runs, in which precision, and facts of the machine that a reader of a result or a log wants."""

import contextlib
import os
import platform

import torch

from simple_llm import WAITING
from simple_llm.errors import UsageError
from simple_llm.processes import local_rank


def resolve_device(name: str) -> torch.device:
    """Turn auto, cpu, cuda or mps into a device that is there: auto into a GPU of CUDA or the CPU.

    Of several GPUs each process that torchrun started on a machine has its own.

    Raises:
        UsageError: the one asked for is not.
    """
    torch.set_float32_matmul_precision("highest")  # float32 is float32, whatever the environment says
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if not available[name]:
        raise UsageError(f"training.device: {name} is not available on this machine, use auto or cpu")
    is_one_of_several = name == "cuda" and 0 < local_rank() < torch.cuda.device_count()
    return torch.device(name, local_rank()) if is_one_of_several else torch.device(name)


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """Turn auto, fp32 or bf16 into a dtype; auto is bfloat16 where the processor multiplies it fast."""
    if name != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]
    if device.type == "cpu":
        is_fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        is_fast = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.bfloat16 if is_fast else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager:
    """Run matrix products in `dtype` inside the block; weights stay float32."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def processor() -> str:
    """The processor's name."""
    return _line_of("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()


def host_facts() -> dict[str, object]:
    """Processor, cores, threads that torch uses, memory and GPU."""
    memory = _line_of("/proc/meminfo", "MemTotal").removesuffix(" kB")
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "waiting": " ".join(f"{name}={os.environ[name]}" for name in WAITING if name in os.environ) or "as OpenMP does",
        "memory": f"{int(memory) / 2**20:.1f} GiB" if memory else "unknown",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def _line_of(path: str, key: str) -> str:
    """The value of the first `key: value` line of one of the kernel's files; empty where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith(key))
    except (OSError, StopIteration):
        return ""
