"""The training loop. It is not a framework: one net, one loss, one optimizer, and a few hooks."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, Self, final

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from siamlearn import ranks
from siamlearn.nn.synchronised import set_training, synchronised
from siamlearn.train import agreeing, checks, describing, learning, resuming, validating
from siamlearn.train.average import Average
from siamlearn.train.callbacks import Callback
from siamlearn.train.feed import Batch, Feed
from siamlearn.train.keeping import Checkpoint
from siamlearn.train.passes import Passes, Place, channels_last
from siamlearn.train.randomness import kept_generators
from siamlearn.train.reporting import Progress
from siamlearn.train.signals import signals_noted

__all__ = ["Trainer"]


@final
class Trainer:
    """Fit a net to batches of images and labels.

    Every random draw is a function of the seed and of its place in the run, so training may be
    stopped and resumed at any step without changing a bit of the result. A callback may read
    the attributes below, add to the last row of ``log``, and call :meth:`stop`.

    A script that ``torchrun --nproc-per-node 4`` starts trains on four ranks as it is. Each reads
    its share of every batch; losses, gradients and batch norms are those of the whole batch, as
    in one process. Callbacks are called on all ranks; files are written by the first one.

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
        micro_batch: pictures that go through the net at once, where memory is short. The loss is
            still that of the whole batch, and so is the gradient; it takes a third more time.
            Batch norms take their statistics from the pieces; that is warned of.
        skip: how many steps of a run may be left out because their loss or gradient is not finite;
            each is warned of. An overflow in float16 is none of them.
        compile: make the net quicker with ``torch.compile``, which takes a while at first; True,
            or the name of a backend.
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
        skipped: steps that were left out.
        loss: of the last step.
        gradient_norm: length of the last step's gradient, before ``clip``.
        embeddings, labels: of the last batch, on this rank, without gradient.
        pictures: how many the last step had, on all ranks.
        waited: seconds spent on getting batches, so far.
        rank, ranks: which process this is, from zero, and of how many.
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
        micro_batch: int | None = None,
        skip: int = 0,
        compile: bool | str = False,
        device: str | torch.device | None = None,
        seed: int = 0,
    ) -> None:
        self.device = ranks.joined(device)
        self.rank, self.ranks = ranks.world()
        self.net = channels_last(net.to(self.device))
        self.criterion = loss.to(self.device) if isinstance(loss, nn.Module) else loss
        self.optimizer, self.schedule, self.augment = optimizer, schedule, augment
        self.callbacks = (Progress(),) if callbacks is None else checks.listed(callbacks)
        self.precision, self.accumulate, self.clip, self.seed = precision, accumulate, clip, seed
        self.micro_batch, self.skip, self.skipped = micro_batch, skip, 0
        checks.check_settings(
            net,
            optimizer,
            schedule=schedule,
            precision=precision,
            clip=clip,
            skip=skip,
            counts={"accumulate": accumulate, "micro_batch": micro_batch},
        )
        learning.join(optimizer, loss, lr=loss_lr)
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.passes = Passes(
            self.net,
            self.criterion,
            self.device,
            seed=seed,
            precision=precision,
            augment=augment,
            micro_batch=micro_batch,
            compile=compile,
        )
        self.average = None if average is None else Average(net, decay=average)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "float16")
        self.epoch = self.step = self.batch = self.epochs = self.pictures = 0
        self.steps: int | None = None
        self.loss = self.gradient_norm = float("nan")
        self.log: list[dict[str, float]] = []
        self.stopped: str | None = None
        self.asked: str | None = None  # to stop, on this rank
        self.total, self.waited, self.counted = 0.0, 0.0, 0
        self.feed: Feed | None = None
        self.options = describing.options(optimizer)

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks: the only one, or the first of the ranks."""
        return self.rank == 0

    @property
    def embeddings(self) -> Tensor | None:
        """Of the last batch, on this rank, without gradient."""
        return self.passes.embeddings

    @property
    def labels(self) -> Tensor | None:
        """Of the last batch, on this rank."""
        return self.passes.labels

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
                checkpoint if this is one. Without any, training starts from the beginning; the
                folder need not be there where a ``Checkpoint`` among the callbacks keeps it, so
                that the same program may be started again and again.

        Raises:
            CheckpointError: when there is no such folder and nobody keeps it, or its checkpoint
                is of another net, optimizer or seed, or of a newer format.
            FloatingPointError: when the loss or the gradient is not finite, before the update.
            ValueError: when there are no batches, or they are not (images, labels).

        Warns:
            UserWarning: when a resumed run has other data or settings, or nothing is left to do;
                when ``val_loss`` is not finite for the first time.
        """
        if epochs < 1:
            msg = f"epochs must be at least 1, got {epochs}"
            raise ValueError(msg)
        feed = Feed(batches, seed=self.seed)
        held_out = None if validation is None else Feed(validation, seed=self.seed)
        self.epochs, self.stopped, self.asked = epochs, None, None
        self.steps = None if feed.length is None else -(-feed.length // self.accumulate)
        self._begin_average()
        if self.step == 0:
            self.options = describing.options(self.optimizer)
        resuming.resume(self, None if resume is None else Path(resume), feed)
        self.feed = feed
        checks.begin_together(self, feed)
        feed.note_people(self.net)
        if self.epoch >= epochs:
            warnings.warn(
                f"nothing is left to train: epochs={epochs} counts from the beginning of the run, "
                f"of which {self.epoch} are done; pass epochs={self.epoch + 1} or more to go on",
                stacklevel=2,
            )
        with ExitStack() as during:
            during.enter_context(kept_generators(self.device))
            during.enter_context(signals_noted(self._note))
            if self.micro_batch is None:
                during.enter_context(synchronised(self.net))
            try:
                self._call("on_fit_start")
                agreeing.agree(self)
                while self.epoch < epochs and self.stopped is None:
                    self._run_epoch(feed, held_out)
            finally:
                self._train(False)
                if self.average is not None:
                    self.average.use()
                self._call("on_fit_end")
        agreeing.agree(self)  # by now the first rank has written its last files
        return self

    def stop(self, why: str) -> None:
        """End training after this step, and after its epoch's end if it was the last one.

        One rank of several may ask for it: they agree on it before the next step.
        """
        self.asked = why
        if self.ranks == 1:
            self.stopped = why

    def state_dict(self) -> dict[str, Any]:
        """The ``model``, as it would be used, and the ``state`` of everything else."""
        with self._averaged():
            return resuming.captured(self)

    def _note(self, why: str) -> None:
        self.stop(self.asked or why)

    def _run_epoch(self, feed: Feed, validation: Feed | None) -> None:
        self._call("on_epoch_start")
        self._train()
        groups = self._groups(feed)
        group = self._following(groups)
        while group:
            if self._step(group):
                self._call("on_step_end")
            group = self._following(groups)
            if group:
                stopping = self.stopped is not None
                self._save(last=stopping)
                if stopping:
                    return
        if self.batch == 0:
            msg = f"epoch {self.epoch + 1} has no batches; an iterator can be read only once"
            raise ValueError(msg)
        with self._averaged():
            self._end_epoch(validation)
        self._save(epoch_ended=True, last=self.stopped is not None or self.epoch == self.epochs)

    def _following(self, groups: Iterator[list[Batch]]) -> list[Batch]:
        try:
            return agreeing.following(self, groups)
        except Exception:
            # The step before is done: what is due is not to be lost.
            self._save(last=self.stopped is not None)
            raise

    def _end_epoch(self, validation: Feed | None) -> None:
        row: dict[str, float] = {"epoch": self.epoch + 1, "step": self.step}
        row["loss"] = self.total / self.counted if self.counted else math.nan
        row["lr"] = float(self.optimizer.param_groups[0]["lr"])
        if validation is not None:
            self._train(False)
            row["val_loss"] = validating.mean_loss(self, validation)
            self._train()
        self.log.append(row)
        self.epoch, self.batch, self.total, self.counted = self.epoch + 1, 0, 0.0, 0
        self._call("on_epoch_end")
        agreeing.agree(self)

    def _groups(self, feed: Feed) -> Iterator[list[Batch]]:
        """The batches of each step, and then none."""
        batches = feed.batches(self.epoch, start=self.batch)
        while True:
            yield list(islice(batches, self.accumulate))

    def _step(self, group: list[Batch]) -> bool:
        """Whether there was a step; there is none where what is not finite may be left out."""
        self.optimizer.zero_grad(set_to_none=True)
        # Batch norms and memories take in a batch when they see it, before it is known to be bad.
        with learning.remembered(self.passes.statistics, self.criterion) as put_back:
            losses = torch.stack(self._backward(group))
        ranks.sum_gradients(self.parameters)
        self.scaler.unscale_(self.optimizer)
        norm = learning.gradient_norm(self.parameters, clip=self.clip)
        # The one wait for the device in a step: nothing is updated by what is not finite.
        total, length = torch.stack([losses.sum(), norm]).tolist()
        if not math.isfinite(total) or not (math.isfinite(length) or self._overflowed()):
            put_back()
            if self.skipped >= self.skip:
                raise FloatingPointError(checks.not_finite(self, total, group))
            warnings.warn(f"left out: {checks.not_finite(self, total, group)}", stacklevel=4)
            self.skipped += 1
            self.batch += len(group)
            return False
        self.scaler.step(self.optimizer)
        self.scaler.update()
        ranks.add_up((b for b in self.passes.statistics if b.is_floating_point()), mean=True)
        if self.schedule is not None and math.isfinite(length):
            learning.step_schedule(self.schedule, self.optimizer)
        self.loss, self.gradient_norm = total, length
        self.pictures = sum(batch.whole or len(batch.labels) for batch in group)
        self.total += total * len(group)
        self.counted += len(group)
        self.step += 1
        self.batch += len(group)
        if self.average is not None:
            self.average.update(self.step)
        return True

    def _backward(self, group: list[Batch]) -> list[Tensor]:
        """The share of each batch in the loss of the step; the gradients are added up."""

        def share(loss: Tensor) -> Tensor:
            return self.scaler.scale(loss / len(group))

        try:
            places = [Place("forward", self.step, part) for part in range(len(group))]
            pairs = zip(group, places, strict=True)
            return [self.passes.backward(*pair, scale=share) / len(group) for pair in pairs]
        except RuntimeError as error:
            msg = checks.out_of_memory(self, error, group)
            if msg is None:
                raise
            raise type(error)(msg) from error

    def _overflowed(self) -> bool:
        # In float16 a gradient may overflow: the scaler then skips the update and scales less.
        return self.scaler.is_enabled() and self.scaler.get_scale() > 1

    def _train(self, mode: bool = True) -> None:
        """The loss too: it may remember what it is trained on, and nothing else."""
        for part in (self.net, self.criterion):
            if isinstance(part, nn.Module):
                set_training(part, mode)

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
