"""The training loop. It is not a framework: one net, one loss, one optimizer, and a few hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, Self, final

import torch
from torch import Tensor, nn

from siamlearn.data.randomness import address
from siamlearn.train.callbacks import Callback
from siamlearn.train.feed import Batch, Feed
from siamlearn.train.randomness import kept_generators, seed_torch

__all__ = ["Trainer"]

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@final
class Trainer:
    """Fit a net to batches of images and labels.

    A callback may read ``net``, ``epoch``, ``step``, ``loss`` and ``log``, and call ``stop``.
    """

    def __init__(
        self,
        net: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        optimizer: torch.optim.Optimizer,
        *,
        callbacks: Sequence[Callback] = (),
        schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
        augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
        precision: str = "float32",
        accumulate: int = 1,
        clip: float | None = None,
        device: str | torch.device | None = None,
        seed: int = 0,
    ) -> None:
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.net = net.to(self.device)
        self.criterion = loss.to(self.device) if isinstance(loss, nn.Module) else loss
        self.optimizer, self.schedule, self.augment = optimizer, schedule, augment
        self.callbacks = tuple(callbacks)
        self.precision, self.accumulate, self.clip, self.seed = precision, accumulate, clip, seed
        self.epoch = self.step = self.batch = 0
        self.epochs = 0
        self.loss = float("nan")
        self.log: list[dict[str, float]] = []
        self.stopped: str | None = None
        self._sum, self._counted = 0.0, 0
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._generator = torch.Generator()
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "float16")

    def fit(
        self,
        batches: Iterable[Any],
        *,
        epochs: int,
        validation: Iterable[Any] | None = None,
        resume: str | None = None,
    ) -> Self:
        """Train until ``epochs`` epochs have been done, and return the trainer."""
        feed = Feed(batches, seed=self.seed)
        checks = None if validation is None else Feed(validation, seed=self.seed)
        self.epochs, self.stopped = epochs, None
        with kept_generators(self.device):
            try:
                self._call("on_fit_start")
                while self.epoch < epochs and self.stopped is None:
                    self._run_epoch(feed, checks)
            finally:
                self.net.eval()
                self._call("on_fit_end")
        return self

    def stop(self, why: str) -> None:
        """End training after this step, and its epoch's end if it was the last one."""
        self.stopped = why

    def _run_epoch(self, feed: Feed, validation: Feed | None) -> None:
        self._call("on_epoch_start")
        self.net.train()
        for group, last in self._groups(feed):
            self._step(group)
            self._call("on_step_end")
            if self.stopped is not None and not last:
                return
        row = {"epoch": self.epoch + 1, "step": self.step, "loss": self._sum / self._counted}
        row["lr"] = self.optimizer.param_groups[0]["lr"]
        if validation is not None:
            row["val_loss"] = self._validate(validation)
        self.log.append(row)
        self.epoch, self.batch, self._sum, self._counted = self.epoch + 1, 0, 0.0, 0
        self._call("on_epoch_end")

    def _groups(self, feed: Feed) -> Iterator[tuple[list[Batch], bool]]:
        batches = feed.batches(self.epoch, start=self.batch)
        group = list(islice(batches, self.accumulate))
        while group:
            following = list(islice(batches, self.accumulate))
            yield group, not following
            group = following

    def _step(self, group: list[Batch]) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        losses = []
        for micro, batch in enumerate(group):
            seed_torch(self.device, "forward", self.seed, self.step, micro)
            images = self._floats(batch.images)
            if self.augment is not None:
                seed = address("augment", self.seed, self.step, micro)
                images = self.augment(images, self._generator.manual_seed(seed))
            loss = self._forward(images, batch.labels) / len(group)
            torch.autograd.backward(self._scaler.scale(loss))
            losses.append(loss.detach())
        self._scaler.unscale_(self.optimizer)
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self._parameters, self.clip)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        if self.schedule is not None:
            self.schedule.step()
        self.loss = float(torch.stack(losses).sum())
        self._sum += self.loss * len(group)
        self._counted += len(group)
        self.step += 1
        self.batch += len(group)

    def _floats(self, images: Tensor) -> Tensor:
        images = images.to(self.device, non_blocking=True)
        return images.div(255) if images.dtype == torch.uint8 else images

    def _forward(self, images: Tensor, labels: Tensor) -> Tensor:
        with self._autocast():
            embeddings = self.net(images)
        if PRECISIONS[self.precision] is not None:
            # Losses in full precision: they subtract numbers that are nearly equal.
            embeddings = embeddings.float()
        return self.criterion(embeddings, labels.to(self.device, non_blocking=True))

    def _autocast(self) -> AbstractContextManager[object]:
        dtype = PRECISIONS[self.precision]
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)

    @torch.no_grad()
    def _validate(self, feed: Feed) -> float:
        self.net.eval()
        losses = []
        for k, batch in enumerate(feed.batches(0)):
            seed_torch(self.device, "validation", self.seed, k)
            losses.append(self._forward(self._floats(batch.images), batch.labels))
        self.net.train()
        return float(torch.stack(losses).mean())

    def _call(self, hook: str) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(self)
