"""Facts of the machine that a reader of a result or of a log wants."""

import os
import platform


def processor() -> str:
    """The processor's name."""
    return _line_of("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()


def host_facts() -> dict[str, object]:
    """Processor, cores, threads that torch uses, memory and GPU."""
    import torch

    memory = _line_of("/proc/meminfo", "MemTotal").removesuffix(" kB")
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory": f"{int(memory) / 2**20:.1f} GiB" if memory else "unknown",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def _line_of(path: str, key: str) -> str:
    """The value of the first `key: value` line of one of the kernel's files; empty where there is none."""
    try:
        with open(path) as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith(key))
    except (OSError, StopIteration):
        return ""
