"""What the Trainer refuses, before it trains and while it does, in sentences."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.optim.lr_scheduler import ReduceLROnPlateau

from siamlearn import ranks
from siamlearn.functional.pairings import all_pairs, references_first
from siamlearn.nn.losses import LiftedStructureLoss
from siamlearn.nn.synchronised import batch_norms
from siamlearn.train.callbacks import Callback
from siamlearn.train.keeping import Checkpoint
from siamlearn.train.passes import PRECISIONS

if TYPE_CHECKING:
    from siamlearn.train.feed import Batch, Feed
    from siamlearn.train.trainer import Trainer

__all__ = ["begin_together", "check_settings", "listed", "not_finite", "out_of_memory"]

# Pictures of a piece whose own statistics do well (Hoffer et al.: Train longer, generalize better).
GHOST = 32


def listed(callbacks: Sequence[Callback]) -> tuple[Callback, ...]:
    """The callbacks as a tuple.

    Raises:
        TypeError: when it is a single one, or something in it is no callback.

    Example:
        >>> listed([])
        ()
    """
    if isinstance(callbacks, Callback):
        kind = type(callbacks).__name__
        msg = f"callbacks must be a list of Callback objects: write callbacks=[{kind}(...)]"
        raise TypeError(msg)
    for callback in callbacks:
        if not isinstance(callback, Callback):
            msg = f"callbacks must be Callback objects, got {callback!r}"
            raise TypeError(msg)
    return tuple(callbacks)


def check_settings(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    schedule: object,
    precision: str,
    clip: float | None,
    skip: int,
    counts: dict[str, int | None],
) -> None:
    """Refuse settings that are out of range, or do not belong together.

    Args:
        counts: numbers that must be at least one, or left out.

    Raises:
        ValueError: with the rule, what came, and what to do.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> optimizer = torch.optim.SGD(net.parameters())
        >>> settings = {"schedule": None, "precision": "float32", "clip": 1.0}
        >>> check_settings(net, optimizer, **settings, skip=0, counts={})
    """
    if precision not in PRECISIONS:
        msg = f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}"
        raise ValueError(msg)
    of = {"accumulate": "batch a step", "micro_batch": "picture at a time"}
    for name, number in counts.items():
        if number is not None and number < 1:
            msg = f"{name} must be at least 1 {of[name]}, got {number}"
            raise ValueError(msg)
    if skip < 0:
        msg = f"skip must be at least 0 steps, got {skip}"
        raise ValueError(msg)
    if clip is not None and clip <= 0:
        msg = f"clip must be above zero, got {clip}; leave it out not to clip"
        raise ValueError(msg)
    if isinstance(schedule, ReduceLROnPlateau):
        msg = "ReduceLROnPlateau cannot be stepped without a value; use another schedule"
        raise ValueError(msg)
    known = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(p) in known for p in net.parameters()):
        msg = "the optimizer has none of this net's parameters; make it after the net"
        raise ValueError(msg)


def begin_together(trainer: Trainer, feed: Feed) -> None:
    """Give all ranks what the first one starts with; refuse what they cannot share.

    Raises:
        ValueError: when a loss goes by the places of pictures in a batch, and the batches do not
            say what belongs together; or when a rank has resumed elsewhere than another.

    Warns:
        UserWarning: when ``micro_batch`` changes the result, as batch norms see pieces.

    Example:
        >>> from siamlearn.train.feed import Feed
        >>> from siamlearn.train.trainer import Trainer
        >>> net = nn.Linear(3, 2)
        >>> trainer = Trainer(net, nn.MSELoss(), torch.optim.SGD(net.parameters(), lr=0.1))
        >>> begin_together(trainer, Feed([], seed=0))
    """
    steps = [int(said) for said in ranks.said(str(trainer.step))]
    if len(set(steps)) > 1:
        msg = f"all ranks must resume at one step, got {steps}: do they all see the same folder?"
        raise ValueError(msg)
    ranks.take_over(_state(trainer.net, trainer.criterion))
    if trainer.ranks > 1 and feed.parts == 1 and _by_places(trainer.criterion):
        msg = (
            "on several ranks, a loss of pairs side by side needs a batch_sampler of ours, such "
            "as PairSampler, which says what belongs together"
        )
        raise ValueError(msg)
    norms = len(batch_norms(trainer.net))
    if trainer.micro_batch is not None and norms:
        warnings.warn(
            f"{norms} batch norms take their statistics from each piece of {trainer.micro_batch} "
            "pictures, not from the whole batch, so that micro_batch changes the result; "
            "benchmarks/micro_batch.py of the repository measures by how much. Use group norms, "
            "or freeze them: norm.requires_grad_(False) for each; or see that each piece is large "
            f"enough to be normed by itself, of {GHOST} pictures or more (ghost batch norms)",
            stacklevel=3,
        )


def not_finite(trainer: Trainer, loss: float, group: Sequence[Batch]) -> str:
    """What is to be said where a loss or a gradient is not finite.

    Example:
        >>> from siamlearn.train.trainer import Trainer
        >>> net = nn.Linear(3, 2)
        >>> trainer = Trainer(net, nn.MSELoss(), torch.optim.SGD(net.parameters(), lr=0.1))
        >>> not_finite(trainer, math.nan, [])[:39]
        'the loss is not finite at step 1, in ep'
    """
    what = "gradient" if math.isfinite(loss) else "loss"
    return (
        f"the {what} is not finite at step {trainer.step + 1}, in epoch {trainer.epoch + 1}, and "
        f"the weights are still those of step {trainer.step}: batch {trainer.batch + 1} has "
        f"{_pictures(trainer, group)}. Look for bad pictures, or try a smaller learning rate, "
        f"clip=1.0 or float32{_last_good(trainer)}"
    )


def out_of_memory(trainer: Trainer, error: RuntimeError, group: Sequence[Batch]) -> str | None:
    """What is to be said where memory is short; None where it was something else.

    Example:
        >>> from siamlearn.train.trainer import Trainer
        >>> net = nn.Linear(3, 2)
        >>> trainer = Trainer(net, nn.MSELoss(), torch.optim.SGD(net.parameters(), lr=0.1))
        >>> out_of_memory(trainer, RuntimeError("shapes cannot be multiplied"), []) is None
        True
    """
    if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
        return None
    n = sum(len(batch.labels) for batch in group)
    size = max(1, (trainer.micro_batch or n) // 4)
    return (
        f"memory is short at step {trainer.step + 1}, with {n} pictures; micro_batch={size} "
        f"{_in_pieces(trainer.net)}{_last_good(trainer)}"
    )


def _in_pieces(net: nn.Module) -> str:
    """What ``micro_batch`` does to the result of a net."""
    if batch_norms(net):
        return (
            "needs less of it, but changes the result: batch norms then take their statistics from "
            "each piece, unless they are frozen, or group norms stand in their place"
        )
    drawn = any(isinstance(module, _DropoutNd) and module.p > 0 for module in net.modules())
    return (
        f"gives the same result{', but for what dropout draws,' if drawn else ''} with less of it"
    )


def _pictures(trainer: Trainer, group: Sequence[Batch]) -> str:
    feed = trainer.feed
    return "; ".join(feed.described(batch) for batch in group) if feed is not None else "none"


def _last_good(trainer: Trainer) -> str:
    kept = [each.last_place for each in trainer.callbacks if isinstance(each, Checkpoint)]
    places = [str(place) for place in kept if place is not None]
    return f"; the last good checkpoint is {places[0]}" if places else ""


def _state(*parts: object) -> Iterator[Tensor]:
    for part in parts:
        if isinstance(part, nn.Module):
            yield from part.state_dict().values()


def _by_places(criterion: object) -> bool:
    """Whether a loss goes by where in a batch a picture stands."""
    parts: Iterable[object] = criterion.modules() if isinstance(criterion, nn.Module) else ()
    return any(_is_bound(getattr(part, "pairing", all_pairs)) for part in parts)


def _is_bound(pairing: Any) -> bool:
    while hasattr(pairing, "pairing"):  # one of a loss that takes another one twice
        pairing = pairing.pairing
    free = (all_pairs, references_first, LiftedStructureLoss.all_pairs)
    return getattr(pairing, "__func__", pairing) not in free
