"""All ranks read, stop and fail together: what one of them cannot do, none goes on without."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from siamlearn import ranks

if TYPE_CHECKING:
    from siamlearn.train.feed import Batch
    from siamlearn.train.trainer import Trainer

__all__ = ["agree", "following", "together"]


def following(trainer: Trainer, groups: Iterator[list[Batch]]) -> list[Batch]:
    """The batches of the next step, none at the end; by then all ranks know whether to stop.

    Raises:
        RuntimeError: when another rank could not read its share. Whatever this one could not do
            is raised as it is.

    Example:
        >>> from types import SimpleNamespace
        >>> following(SimpleNamespace(ranks=1, waited=0.0), iter([["a batch"]]))
        ['a batch']
    """
    start = time.perf_counter()
    try:
        group = next(groups)
    except Exception as error:
        agree(trainer, error)
        raise
    trainer.waited += time.perf_counter() - start
    agree(trainer)
    return group


def together(trainer: Trainer, batches: Iterator[Batch]) -> Iterator[Batch]:
    """The batches, none of which a rank goes on with where another could not read its share.

    Raises:
        RuntimeError: when another rank could not. What this one could not do is raised as it is.

    Example:
        >>> from types import SimpleNamespace
        >>> [*together(SimpleNamespace(ranks=1), iter(["a batch"]))]
        ['a batch']
    """
    while True:
        try:
            batch = next(batches, None)
        except Exception as error:
            agree(trainer, error)
            raise
        agree(trainer)
        if batch is None:
            return
        yield batch


def agree(trainer: Trainer, failed: Exception | None = None) -> None:
    """Stop all ranks where one of them was asked to stop, or failed.

    Args:
        failed: what happened on this rank.

    Raises:
        RuntimeError: when another rank failed.

    Example:
        >>> from types import SimpleNamespace
        >>> agree(SimpleNamespace(ranks=1))
    """
    if trainer.ranks == 1:
        return
    stopping, broken = ranks.agreed(trainer.asked is not None, failed is not None)
    if stopping:
        trainer.stopped = next(filter(None, ranks.said(trainer.asked or "")))
    if broken:
        said = ranks.said("" if failed is None else f"{type(failed).__name__}: {failed}")
        if failed is None:
            others = "; ".join(f"rank {n}: {text}" for n, text in enumerate(said) if text)
            msg = f"all ranks stop, for one of them failed: {others}"
            raise RuntimeError(msg)
