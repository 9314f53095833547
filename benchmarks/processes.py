"""One process a measurement: what ran before it leaves no trace in its time or its memory."""

from __future__ import annotations

import ctypes
import gc
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["answer", "child", "extra_memory"]


def child(*arguments: str) -> Any:
    """What the same program says, as its last line, when it is called with these arguments."""
    done = subprocess.run(
        [sys.executable, sys.argv[0], *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        msg = f"{' '.join(arguments)}: {done.stderr[-2000:]}"
        raise RuntimeError(msg)
    return json.loads(done.stdout.strip().splitlines()[-1])


def answer(found: Any) -> None:
    """Say it to whoever called ``child``."""
    sys.stdout.write(json.dumps(found) + "\n")


def extra_memory(work: Callable[[], object]) -> float:
    """The most that some work needs beyond what is there before it, in bytes."""
    gc.collect()
    # What is freed may stay with the process, and would be taken for what was there before.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest resident size so far
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return float(found[1]) * 1024
