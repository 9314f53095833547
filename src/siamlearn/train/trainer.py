"""The training loop. It is not a framework: one net, one loss, one optimizer, and a few hooks."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, Self, final

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from siamlearn.data.randomness import address
from siamlearn.train import describing, learning, resuming
from siamlearn.train.average import Average
from siamlearn.train.callbacks import Callback
from siamlearn.train.feed import Batch, Feed
from siamlearn.train.keeping import Checkpoint
from siamlearn.train.randomness import kept_generators, seed_torch
from siamlearn.train.reporting import Progress
from siamlearn.train.signals import signals_noted

__all__ = ["Trainer"]

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@final
class Trainer:
    """Fit a net to batches of images and labels.

    Every random draw is a function of the seed and of its place in the run, so training may be
    stopped and resumed at any step without changing a bit of the result. A callback may read
    the attributes below, add to the last row of ``log``, and call :meth:`stop`.

    Args:
        net: images (n, c, h, w) to embeddings (n, d); it is moved to the device.
        loss: embeddings and labels to a number. What it learns itself (proxies, a temperature) is
            put into the optimizer, without weight decay, where it is not there yet.
        optimizer: over the parameters of the net.
        callbacks: called in this order; ``[Progress()]`` if left out, and ``()`` is silent.
        schedule: of the learning rate; stepped once after each optimizer step.
        augment: from images, floats from 0 to 1 on the device, and a generator on the CPU to
            images; applied in training only.
        precision: "float32", or "bfloat16" or "float16" for mixed precision; the weights, the
            loss and the update stay in float32.
        accumulate: batches in one optimizer step; the loss is the mean of theirs.
        clip: scale the gradient down to this norm where it is longer.
        loss_lr: the learning rate of what is put there; it follows the schedule of the first
            group, whose rate it has if left out.
        average: keep a running average of the weights, of which a step keeps this share (0.99).
            Validation, ``on_epoch_end``, checkpoints' models and the trained net use it.
        device: where to train; on CUDA if there is one.
        seed: of dropout, augmentation, transforms and the order of pictures. Initial weights
            and our samplers have seeds of their own.

    Attributes:
        epoch, step: epochs and optimizer steps that were done.
        loss: of the last step.
        log: a row for each epoch: epoch, step, loss, lr, val_loss, and what callbacks add.
        stopped: why training ended before its last epoch, or None.

    Raises:
        ValueError: when a number is out of range, or the optimizer has other parameters.
        TypeError: when something in ``callbacks`` is not a Callback.

    Example:
        >>> from siamlearn.nn.losses import ContrastiveLoss
        >>> net = nn.Linear(3, 2)
        >>> batches = [(torch.eye(3), torch.tensor([0, 0, 1]))]
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        >>> Trainer(net, ContrastiveLoss(), optimizer, callbacks=()).fit(batches, epochs=5).step
        5
    """

    def __init__(
        self,
        net: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        optimizer: torch.optim.Optimizer,
        *,
        callbacks: Sequence[Callback] | None = None,
        schedule: LRScheduler | None = None,
        augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
        precision: str = "float32",
        accumulate: int = 1,
        clip: float | None = None,
        loss_lr: float | None = None,
        average: float | None = None,
        device: str | torch.device | None = None,
        seed: int = 0,
    ) -> None:
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.net = _channels_last(net.to(self.device))
        self.criterion = loss.to(self.device) if isinstance(loss, nn.Module) else loss
        self.optimizer, self.schedule, self.augment = optimizer, schedule, augment
        self.callbacks = (Progress(),) if callbacks is None else _listed(callbacks)
        self.precision, self.accumulate, self.clip, self.seed = precision, accumulate, clip, seed
        self.statistics = [
            buffer
            for module in net.modules()
            if getattr(module, "track_running_stats", False)
            for buffer in module.buffers(recurse=False)
        ]
        self._check()
        learning.join(optimizer, loss, lr=loss_lr)
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.average = None if average is None else Average(net, decay=average)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "float16")
        self.epoch = self.step = self.batch = 0
        self.epochs = 0
        self.steps: int | None = None
        self.loss = float("nan")
        self.log: list[dict[str, float]] = []
        self.stopped: str | None = None
        self.total, self.counted = 0.0, 0
        self.feed: Feed | None = None
        self.options = describing.options(optimizer)
        self._generator = torch.Generator()

    def fit(
        self,
        batches: Iterable[Any],
        *,
        epochs: int,
        validation: Iterable[Any] | None = None,
        resume: str | Path | None = None,
    ) -> Self:
        """Train until ``epochs`` epochs have been done, and return the trainer.

        The first Ctrl-C or SIGTERM finishes the step, saves, and returns with the reason in
        ``stopped``; the second ends the program as usual. The generators of torch, numpy and
        Python are left as they were found, and the net in evaluation mode.

        Args:
            batches: a DataLoader, or an iterable of (images, labels) that can be read anew for
                each epoch. A sampler with ``batch(epoch, k)``, as ours, is resumed at once;
                another one skips indices, and an iterable skips batches.
            epochs: of the whole run, with those that were done before.
            validation: batches whose mean loss is logged as ``val_loss`` after each epoch,
                always the same ones: those of epoch 0.
            resume: go on from the latest whole checkpoint in this folder, or from the very
                checkpoint if this is one. A folder without any starts from the beginning.

        Raises:
            CheckpointError: when there is no such folder, or its checkpoint is of another net,
                optimizer or seed, or of a newer format.
            FloatingPointError: when the loss or the gradient is not finite, before the update.
            ValueError: when there are no batches, or they are not (images, labels).

        Warns:
            UserWarning: when a resumed run has other data or settings, or nothing is left to do.
        """
        if epochs < 1:
            msg = f"epochs must be at least 1, got {epochs}"
            raise ValueError(msg)
        feed = Feed(batches, seed=self.seed)
        checks = None if validation is None else Feed(validation, seed=self.seed)
        self.epochs, self.stopped = epochs, None
        self.steps = None if feed.length is None else -(-feed.length // self.accumulate)
        self._begin_average()
        if self.step == 0:
            self.options = describing.options(self.optimizer)
        if resume is not None:
            resuming.resume(self, Path(resume), feed)
        self.feed = feed
        feed.note_people(self.net)
        if self.epoch >= epochs:
            warnings.warn(
                f"nothing is left to train: epochs={epochs} counts from the beginning of the run, "
                f"of which {self.epoch} are done; pass epochs={self.epoch + 1} or more to go on",
                stacklevel=2,
            )
        with kept_generators(self.device), signals_noted(self._note):
            try:
                self._call("on_fit_start")
                while self.epoch < epochs and self.stopped is None:
                    self._run_epoch(feed, checks)
            finally:
                self._train(False)
                if self.average is not None:
                    self.average.use()
                self._call("on_fit_end")
        return self

    def stop(self, why: str) -> None:
        """End training after this step, and after its epoch's end if it was the last one."""
        self.stopped = why

    def state_dict(self) -> dict[str, Any]:
        """The ``model``, as it would be used, and the ``state`` of everything else."""
        with self._averaged():
            return resuming.captured(self)

    def _note(self, why: str) -> None:
        self.stopped = self.stopped or why

    def _check(self) -> None:
        if self.precision not in PRECISIONS:
            msg = f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}"
            raise ValueError(msg)
        if self.accumulate < 1:
            msg = f"accumulate must be at least 1 batch a step, got {self.accumulate}"
            raise ValueError(msg)
        if self.clip is not None and self.clip <= 0:
            msg = f"clip must be above zero, got {self.clip}; leave it out not to clip"
            raise ValueError(msg)
        if isinstance(self.schedule, ReduceLROnPlateau):
            msg = "ReduceLROnPlateau cannot be stepped without a value; use another schedule"
            raise ValueError(msg)
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                msg = f"callbacks must be Callback objects, got {callback!r}"
                raise TypeError(msg)
        known = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        if not any(id(p) in known for p in self.net.parameters()):
            msg = "the optimizer has none of this net's parameters; make it after the net"
            raise ValueError(msg)

    def _run_epoch(self, feed: Feed, validation: Feed | None) -> None:
        self._call("on_epoch_start")
        self._train()
        for group, last in self._groups(feed):
            self._step(group, feed)
            self._call("on_step_end")
            if not last:
                stopping = self.stopped is not None
                self._save(last=stopping)
                if stopping:
                    return
        if self.counted == 0:
            msg = f"epoch {self.epoch + 1} has no batches; an iterator can be read only once"
            raise ValueError(msg)
        with self._averaged():
            self._end_epoch(validation)
        self._save(epoch_ended=True, last=self.stopped is not None or self.epoch == self.epochs)

    def _end_epoch(self, validation: Feed | None) -> None:
        row = {"epoch": self.epoch + 1, "step": self.step, "loss": self.total / self.counted}
        row["lr"] = float(self.optimizer.param_groups[0]["lr"])
        if validation is not None:
            row["val_loss"] = self._validate(validation)
        self.log.append(row)
        self.epoch, self.batch, self.total, self.counted = self.epoch + 1, 0, 0.0, 0
        self._call("on_epoch_end")

    def _groups(self, feed: Feed) -> Iterator[tuple[list[Batch], bool]]:
        """The batches of each step, and whether it is the last one of the epoch."""
        batches = feed.batches(self.epoch, start=self.batch)
        group = list(islice(batches, self.accumulate))
        while group:
            following = list(islice(batches, self.accumulate))
            yield group, not following
            group = following

    def _step(self, group: list[Batch], feed: Feed) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        # Batch norms and memories take in a batch when they see it, before it is known to be bad.
        before = [buffer.clone() for buffer in self.statistics]
        remembered = learning.remembered(self.criterion)
        losses = [self._backward(batch, k, len(group)) for k, batch in enumerate(group)]
        self.scaler.unscale_(self.optimizer)
        norm = learning.gradient_norm(self.parameters, clip=self.clip)
        # The one wait for the device in a step: nothing is updated by what is not finite.
        total, length = torch.stack([torch.stack(losses).sum(), norm]).tolist()
        if not math.isfinite(total) or not (math.isfinite(length) or self._overflowed()):
            for buffer, old in zip(self.statistics, before, strict=True):
                buffer.copy_(old)
            if isinstance(self.criterion, nn.Module):
                self.criterion.load_state_dict(remembered, strict=False)
            raise FloatingPointError(self._non_finite(total, group, feed))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.schedule is not None and math.isfinite(length):
            learning.step_schedule(self.schedule, self.optimizer)
        self.loss = total
        self.total += total * len(group)
        self.counted += len(group)
        self.step += 1
        self.batch += len(group)
        if self.average is not None:
            self.average.update(self.step)

    def _backward(self, batch: Batch, micro: int, parts: int) -> Tensor:
        seed_torch(self.device, "forward", self.seed, self.step, micro)
        images = self._floats(batch.images)
        if self.augment is not None:
            seed = address("augment", self.seed, self.step, micro)
            images = self.augment(images, self._generator.manual_seed(seed))
        loss = self._forward(images, batch.labels) / parts
        torch.autograd.backward(self.scaler.scale(loss))
        return loss.detach()

    def _floats(self, images: Tensor) -> Tensor:
        images = images.to(self.device, non_blocking=True)
        if images.dtype != torch.uint8:
            return images
        return images.to(torch.get_default_dtype()).div_(255)

    def _forward(self, images: Tensor, labels: Tensor) -> Tensor:
        with self._autocast():
            embeddings = self.net(images)
        if PRECISIONS[self.precision] is not None:
            # Losses in full precision: they subtract numbers that are nearly equal.
            embeddings = embeddings.float()
        loss: Tensor = self.criterion(embeddings, labels.to(self.device, non_blocking=True))
        return loss

    def _autocast(self) -> AbstractContextManager[object]:
        dtype = PRECISIONS[self.precision]
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)

    def _overflowed(self) -> bool:
        # In float16 a gradient may overflow: the scaler then skips the update and scales less.
        return self.scaler.is_enabled() and self.scaler.get_scale() > 1

    def _non_finite(self, loss: float, group: list[Batch], feed: Feed) -> str:
        what = "gradient" if math.isfinite(loss) else "loss"
        pictures = "; ".join(feed.described(batch) for batch in group)
        return (
            f"the {what} is not finite at step {self.step + 1}, in epoch {self.epoch + 1}, and the "
            f"weights are still those of step {self.step}: batch {self.batch + 1} has {pictures}. "
            f"Look for bad pictures, or try a smaller learning rate, clip=1.0 or float32"
            f"{self._last_good()}"
        )

    def _last_good(self) -> str:
        kept = [each.last_place for each in self.callbacks if isinstance(each, Checkpoint)]
        places = [str(place) for place in kept if place is not None]
        return f"; the last good checkpoint is {places[0]}" if places else ""

    @torch.no_grad()
    def _validate(self, feed: Feed) -> float:
        self._train(False)
        losses = []
        for k, batch in enumerate(feed.batches(0)):
            seed_torch(self.device, "validation", self.seed, k)
            losses.append(self._forward(self._floats(batch.images), batch.labels))
        if not losses:
            msg = "validation has no batches; an iterator can be read only once"
            raise ValueError(msg)
        self._train()
        return float(torch.stack(losses).mean())

    def _train(self, mode: bool = True) -> None:
        """The loss too: it may remember what it is trained on, and nothing else."""
        for part in (self.net, self.criterion):
            if isinstance(part, nn.Module):
                part.train(mode)

    def _begin_average(self) -> None:
        if self.average is not None and self.step == 0:
            self.average = Average(self.net, decay=self.average.decay)
        elif self.average is not None:
            self.average.rest()

    def _averaged(self) -> AbstractContextManager[None]:
        return nullcontext() if self.average is None else self.average.in_use()

    def _save(self, *, epoch_ended: bool = False, last: bool = False) -> None:
        for callback in self.callbacks:
            if isinstance(callback, Checkpoint):
                callback.save_if_due(self, epoch_ended=epoch_ended, last=last)

    def _call(self, hook: str) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(self)


def _listed(callbacks: Sequence[Callback]) -> tuple[Callback, ...]:
    if isinstance(callbacks, Callback):
        kind = type(callbacks).__name__
        msg = f"callbacks must be a list of Callback objects: write callbacks=[{kind}(...)]"
        raise TypeError(msg)
    return tuple(callbacks)


def _channels_last(net: nn.Module) -> nn.Module:
    """The net with its convolutions' weights in the memory order that is a third faster."""
    for parameter in net.parameters():
        if parameter.ndim == 4:
            # contiguous() would leave a convolution of one channel as it is, and slow.
            parameter.data = parameter.data.to(memory_format=torch.channels_last)
    return net
