"""The processes that share a run: one, or as many as torchrun started.

    torchrun --nproc-per-node 2 trainer.py

Each holds the whole model and works on its share of every batch. What all of them have to know - the gradient, the
loss, whether to stop - is added up over them: by gloo on CPUs, by NCCL on GPUs. What is written, the first one writes.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import distributed, Tensor
from torch.nn.parallel import DistributedDataParallel

from simple_llm.errors import UsageError


@dataclass(frozen=True)
class Processes:
    """This process among those of the run.

    Attributes:
        rank: 0 is the first.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def share(self) -> slice:
        """Which items of a sequence are this process's: of 7 items and 3 processes, the first has 0, 3 and 6."""
        return slice(self.rank, None, self.count)

    def sum(self, tensor: Tensor) -> Tensor:
        """Add up over the processes, in place."""
        if self.count > 1:
            distributed.all_reduce(tensor)
        return tensor

    def gather(self, own: Tensor, num_items: int) -> Tensor:
        """Put together what each process found for its share: (N of its own, ...) -> (num_items, ...)."""
        everything = own.new_zeros(num_items, *own.shape[1:])
        everything[self.share] = own
        return self.sum(everything)

    def largest(self, number: int) -> int:
        """The largest of one number of each process."""
        everywhere = torch.tensor(number)
        if self.count > 1:
            distributed.all_reduce(everywhere, op=distributed.ReduceOp.MAX)
        return int(everywhere)

    def agree(self, number: int) -> bool:
        """Whether all processes have the same number."""
        largest, smallest = self.largest(number), -self.largest(-number)  # each process asks for both
        return largest == smallest

    def wait(self) -> None:
        """Go on when all processes have come this far."""
        if self.count > 1:
            distributed.barrier()

    @contextlib.contextmanager
    def first_goes_first(self) -> Iterator[None]:
        """Let the others into the block when the first process is through it; where that one fails, they never are."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()

    def replicate(self, module: torch.nn.Module) -> torch.nn.Module:
        """Make backward passes of the module sum the gradients over the processes, while they are computed."""
        if self.count == 1:
            return module
        replica = DistributedDataParallel(module, forward_sync_buffers=False)
        replica.register_comm_hook(None, _sum_gradients)  # by itself it would give their mean
        return replica


ALONE = Processes()
# Numbers and flags are summed on the CPU. With no backend named, a machine with a GPU would have none for them.
_BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}


def _sum_gradients(state: None, bucket: distributed.GradBucket) -> torch.futures.Future[Tensor]:
    work = distributed.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda done: done.value()[0])


# What torchrun tells a process: who it is among how many, the same on its machine, and where all of them meet.
_PLACE = ("RANK", "WORLD_SIZE")
_LAUNCH = (*_PLACE, "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# How often srun and two kinds of mpirun start a program, which would each time take itself for the only one.
_COUNTS_OF_OTHERS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


def processes_of_torchrun() -> Processes:
    """This process's place as torchrun says it, see `require_whole_launch`; alone where it was not started by it."""
    return Processes(_number("RANK", 0), _number("WORLD_SIZE", 1))


def local_rank() -> int:
    """Which of this machine's processes this one is."""
    return _number("LOCAL_RANK", 0)


def require_whole_launch(meets: bool = True) -> None:
    """Check that a launcher has said all that it has to, or that there was none.

    Args:
        meets: the processes talk to each other; else their place is enough.

    Raises:
        UsageError: it has not, or it contradicts itself; names all of the variables.
    """
    said = [name for name in _LAUNCH if name in os.environ]
    if not said:
        for name in _COUNTS_OF_OTHERS:
            if _number(name, 1) > 1:
                raise UsageError(
                    f"{name}={os.environ[name]}: started more than once; have torchrun start the processes"
                )
        return
    missing = [name for name in (_LAUNCH if meets else _PLACE) if name not in said]
    wrong = [] if missing else [name for name in said if name != "MASTER_ADDR" and _number(name, -1) < 0]
    wrong += ["MASTER_ADDR"] * (os.environ.get("MASTER_ADDR", "left out").strip() == "")
    if missing or wrong or _contradiction():
        is_not_said = f", and not {', '.join(missing)}" if missing else ""
        is_wrong = f": {', '.join(wrong)} cannot be so" if wrong else ": they contradict each other"
        raise UsageError(
            f"a launcher says {', '.join(f'{name}={os.environ[name]!r}' for name in said)}{is_not_said or is_wrong}; "
            f"start with torchrun, or alone with none of them: `unset {' '.join(said)}`"
        )


def _contradiction() -> bool:
    """Whether the numbers that a launcher says cannot be true together."""
    rank, count = _number("RANK", 0), _number("WORLD_SIZE", 1)
    here, count_here = _number("LOCAL_RANK", 0), _number("LOCAL_WORLD_SIZE", count)
    is_place = here <= rank < count and here < count_here <= count
    return not is_place or not 0 < _number("MASTER_PORT", 1) < 2**16


def _number(name: str, default: int) -> int:
    """A variable of the environment that is a number; the default where it is none."""
    text = os.environ.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() else default


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Meet the other processes that torchrun started, if it did.

    A process whose block fails leaves without a word, so that the others see it gone and end too.

    Raises:
        UsageError: there are more processes on this machine than GPUs, or they are to share work on Apple's.
    """
    processes = processes_of_torchrun()
    if processes.count == 1:
        yield processes
        return
    num_here = _number("LOCAL_WORLD_SIZE", processes.count)
    if device.type == "cuda":
        if num_here > torch.cuda.device_count():
            raise UsageError(
                f"{num_here} processes on this machine for {torch.cuda.device_count()} GPUs; "
                "give torchrun a smaller --nproc-per-node, or set training.device=cpu"
            )
        torch.cuda.set_device(local_rank())
    if device.type == "mps":
        raise UsageError("several processes do not work on mps; set training.device=cpu, or start one")
    if num_here == processes.count and "lo" in (name for _, name in socket.if_nameindex()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # else gloo looks for a network, which a laptop may not have
    distributed.init_process_group(_BACKENDS[device.type])
    yield processes
    distributed.destroy_process_group()
