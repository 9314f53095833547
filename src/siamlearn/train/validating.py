"""The mean loss of pictures that are not trained on."""

from __future__ import annotations

import math
import warnings
from itertools import islice
from typing import TYPE_CHECKING

import torch

from siamlearn.train import agreeing
from siamlearn.train.passes import Place

if TYPE_CHECKING:
    from siamlearn.train.feed import Feed
    from siamlearn.train.trainer import Trainer

__all__ = ["mean_loss"]


def mean_loss(trainer: Trainer, feed: Feed) -> float:
    """The mean of the losses of all batches; net and loss are in evaluation mode.

    Raises:
        ValueError: when there are no batches.

    Warns:
        UserWarning: when it is the first one that is not finite, with the batch and its pictures.

    Example:
        >>> from torch import nn
        >>> from siamlearn.train.feed import Feed
        >>> from siamlearn.train.trainer import Trainer
        >>> net = nn.Linear(3, 2)
        >>> trainer = Trainer(net, nn.MSELoss(), torch.optim.SGD(net.parameters(), lr=0.1))
        >>> mean_loss(trainer, Feed([(torch.ones(2, 3), torch.zeros(2, 2))], seed=0)) > 0
        True
    """
    losses = [
        trainer.passes.loss(batch, Place("validation", k))
        for k, batch in enumerate(agreeing.together(trainer, feed.batches(0)))
    ]
    if not losses:
        msg = "validation has no batches; an iterator can be read only once"
        raise ValueError(msg)
    values = torch.stack(losses)
    mean = float(values.mean())
    before = [row.get("val_loss", 0.0) for row in trainer.log]
    if not math.isfinite(mean) and all(map(math.isfinite, before)) and trainer.first:
        bad = (~values.isfinite()).nonzero().flatten().tolist()
        warnings.warn(_said(trainer, feed, mean, bad, len(losses)), stacklevel=5)
    return mean


def _said(trainer: Trainer, feed: Feed, mean: float, bad: list[int], count: int) -> str:
    what = f"val_loss is {mean} after epoch {trainer.epoch + 1}, and training goes on"
    if not bad:
        return f"{what}: the losses are too large to be added up; try a smaller learning rate"
    batch = next(islice(feed.batches(0), bad[0], None), None)
    pictures = "" if batch is None else f", which has {feed.described(batch)}"
    return (
        f"{what}: the loss is not finite in {len(bad)} of {count} batches, first in batch "
        f"{bad[0] + 1}{pictures}. Look for bad pictures there; where they are good, try a smaller "
        f"learning rate, clip=1.0 or float32. EarlyStopping and best= never take such an epoch for "
        f"the best"
    )
