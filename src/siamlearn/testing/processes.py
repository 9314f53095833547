"""Several ranks on the CPU of this machine, forked from this process, for a proof.

They are forks, so that they have whatever this process has: functions without a name, classes of
a notebook. None outlives the call.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import final

import torch
import torch.distributed as dist

__all__ = ["RankError", "on_ranks"]


@final
class RankError(RuntimeError):
    """One of several ranks did not come to an end.

    Attributes:
        rank: which, counted from zero.
        reason: what it says.

    Example:
        >>> RankError(1, "ValueError: too few")
        RankError('rank 1 failed: ValueError: too few')
    """

    def __init__(self, rank: int, reason: str) -> None:
        super().__init__(f"rank {rank} failed: {reason}")
        self.rank, self.reason = rank, reason


def on_ranks(count: int, work: Callable[[int], bytes], *, patience: float = 60.0) -> list[bytes]:
    """What some work gives on each of several ranks, which talk through gloo.

    Each is a fork of this process with one thread, and ends with this call, whatever happens. In
    a fork, PyTorch cannot use a GPU that this process has used; nor, where there is a GPU, go
    backward if this process has.

    Args:
        count: how many ranks.
        work: called on each with its number; what it gives is sent back.
        patience: how long to wait for all of them, in seconds.

    Raises:
        RankError: where one raises, is ended, or is not done in time; the others are ended.
        RuntimeError: where a process cannot be forked, or is itself one of several ranks.

    Example:
        >>> def work(rank):
        ...     numbers = torch.tensor([rank + 1])
        ...     dist.all_reduce(numbers)
        ...     return bytes(numbers.tolist())
        >>> on_ranks(2, work)
        [b'\\x03', b'\\x03']
    """
    if not hasattr(os, "fork") or not dist.is_available() or not dist.is_gloo_available():
        msg = (
            "ranks are tried in forks of this process that talk through gloo, which this system "
            "does not have; try them on Linux or macOS, such as in CI or in WSL"
        )
        raise RuntimeError(msg)
    if dist.is_initialized():
        msg = (
            "ranks are started here, so that this process must not be one: run it without torchrun"
        )
        raise RuntimeError(msg)
    with tempfile.TemporaryDirectory(prefix="ranks-") as name:
        folder = Path(name)
        children: dict[int, int] = {}
        try:
            for rank in range(count):
                children[rank] = _forked(rank, count, folder, work, patience)
            _wait(children, folder, patience)
        finally:
            for child in children.values():
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        return [(folder / f"said by {rank}").read_bytes() for rank in range(count)]


def _wait(children: dict[int, int], folder: Path, patience: float) -> None:
    """Until all are done; who is done is taken out."""
    deadline = time.monotonic() + patience
    while children:
        for rank, child in [*children.items()]:
            done, status = os.waitpid(child, os.WNOHANG)
            if not done:
                continue
            del children[rank]
            if not (folder / f"said by {rank}").exists():
                raise _failure(rank, folder, status)
        if time.monotonic() > deadline:
            reason = (
                f"it is not done after {patience:g} seconds; most often a rank waits for the "
                "others: all must take part in every step, forward and backward, if only with an "
                "empty batch"
            )
            raise RankError(min(children), reason)
        time.sleep(0.002)


def _failure(rank: int, folder: Path, status: int) -> RankError:
    """Of the rank that failed first: the others fail for they hear no more of it."""
    told = sorted(folder.glob("failure of *"), key=lambda file: file.stat().st_mtime_ns)
    if not told:
        code = os.waitstatus_to_exitcode(status)
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return RankError(rank, f"it was ended {how}")
    reason = told[0].read_text(encoding="utf-8")
    if "fork-based multiprocessing" in reason or "in forked subprocess" in reason:
        reason += (
            ". On a machine with a GPU, PyTorch can do this in a fork only if the process has used "
            "neither autograd nor CUDA before: do it first, or hide the GPU by "
            "CUDA_VISIBLE_DEVICES=''"
        )
    return RankError(int(told[0].name.split()[-1]), reason)


def _forked(
    rank: int, count: int, folder: Path, work: Callable[[int], bytes], patience: float
) -> int:
    with warnings.catch_warnings():
        # Threads of this process are not in the fork, which Python warns of; nor are they needed.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    code = 1
    try:
        _work(rank, count, folder, work, patience)
        code = 0
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}"
        (folder / f"failure of {rank}").write_text(reason, encoding="utf-8")
    finally:
        os._exit(code)  # without what this process does at its end


def _work(
    rank: int, count: int, folder: Path, work: Callable[[int], bytes], patience: float
) -> None:
    torch.set_num_threads(1)  # those of OpenMP are not in the fork, and would be waited for
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=count,
        timeout=timedelta(seconds=2 * patience),  # who waits here says it better
    )
    said = work(rank)
    part = folder / f"part of {rank}"
    part.write_bytes(said)
    part.rename(folder / f"said by {rank}")
