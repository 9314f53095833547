"""Several ranks, forked from a process that has torch loaded: each does its part of some work."""

import os
import time
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

PATIENCE = 60  # seconds


def on_ranks(
    count: int, folder: Path, work: Callable[[int], Any], *, patience: float = PATIENCE
) -> list[Any]:
    """What the work gives on each rank; an exception is given back as its text."""
    folder.mkdir(parents=True, exist_ok=True)
    children = [_forked(rank, count, folder, work) for rank in range(count)]
    try:
        deadline = time.monotonic() + patience
        for rank, child in enumerate(children):
            while os.waitpid(child, os.WNOHANG) == (0, 0):
                assert time.monotonic() < deadline, f"rank {rank} is not done"
                time.sleep(0.005)
            children[rank] = 0
    finally:
        for child in filter(None, children):
            os.kill(child, 9)
            os.waitpid(child, 0)
    return [torch.load(folder / f"said by {rank}") for rank in range(count)]


def _forked(rank: int, count: int, folder: Path, work: Callable[[int], Any]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads about
        child = os.fork()
    if child:
        return child
    try:
        torch.set_num_threads(1)
        dist.init_process_group(
            "gloo",
            init_method=f"file://{folder}/meeting of {count}",
            rank=rank,
            world_size=count,
            timeout=timedelta(seconds=20),
        )
        try:
            outcome = work(rank)
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        torch.save(outcome, folder / f"said by {rank}")
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)
