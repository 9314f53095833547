"""Several ranks for a test: whatever each finds, or its exception as a text."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from siamlearn import testing


def on_ranks(
    count: int, folder: Path, work: Callable[[int], Any], *, patience: float = 60
) -> list[Any]:
    """What the work gives on each rank; an exception is given back as its text."""
    folder.mkdir(parents=True, exist_ok=True)

    def said(rank: int) -> bytes:
        try:
            outcome = work(rank)
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        file = io.BytesIO()
        torch.save(outcome, file)
        return file.getvalue()

    found = testing.on_ranks(count, said, patience=patience)
    return [torch.load(io.BytesIO(data)) for data in found]
