"""A callback that watches for what goes wrong without an error, and says cause and remedy."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple, final

import torch
from torch import Tensor, nn

from siamlearn import ranks
from siamlearn.data.image_set import ImageSet
from siamlearn.functional.distances import euclidean
from siamlearn.functional.pairings import itself
from siamlearn.functional.pairs import Distance
from siamlearn.nn.losses import (
    BatchHardLoss,
    ContrastiveLoss,
    PairLoss,
    SemiHardTripletLoss,
    TripletLoss,
)
from siamlearn.nn.references import Proxies
from siamlearn.nn.synchronised import batch_norms
from siamlearn.train import shortages, symptoms
from siamlearn.train.callbacks import Callback
from siamlearn.train.looks import Record, look
from siamlearn.train.symptoms import Symptom

if TYPE_CHECKING:
    from siamlearn.train.trainer import Trainer

__all__ = ["Aim", "Doctor", "aim"]

WORSE = 2.0  # times the degree at which something was said, to say it again


class Aim(NamedTuple):
    """What a loss measures by, as far as a doctor has to know.

    Attributes:
        distance: how far apart two embeddings are.
        margin: what it asks of distances, if it compares the batch with itself by one.
        between: the margin is one between positives and negatives, and not from 0.
        proxies: it compares with one learned vector for each person.

    Example:
        >>> Aim().margin is None
        True
    """

    distance: Distance = euclidean
    margin: float | None = None
    between: bool = False
    proxies: bool = False


@final
class Doctor(Callback):
    """Watch for what silently goes wrong, and say what was seen, why probably, and what to try.

    It is silent where nothing is wrong, says each thing once, and again when it is twice as bad.
    It looks at the first step and at every so many, at the batch that was trained on anyway, and
    changes nothing. ``docs/howto/doctor.md`` lists what it knows.

    Args:
        every: steps from one look to the next.
        write: where to; the standard error if left out.

    Attributes:
        findings: what was said, as :class:`~siamlearn.train.symptoms.Symptom`, the first first.

    Raises:
        ValueError: when ``every`` is below 1.

    Example:
        >>> from siamlearn.nn.losses import SupConLoss
        >>> from siamlearn.train.trainer import Trainer
        >>> net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> doctor = Doctor(write=lambda text: None)
        >>> trainer = Trainer(net, SupConLoss(0.1), optimizer, callbacks=[doctor])
        >>> _ = trainer.fit([(torch.eye(3), torch.tensor([0, 0, 1]))], epochs=1)
        >>> doctor.findings[0].seen
        'a batch norm takes its statistics from 3 pictures.'
    """

    def __init__(self, *, every: int = 10, write: Callable[[str], object] | None = None) -> None:
        if every < 1:
            msg = f"every must be at least 1 step, got {every}"
            raise ValueError(msg)
        self.every, self.write = every, write
        self._forget()

    def _forget(self) -> None:
        self.findings: list[Symptom] = []
        self.record = Record()
        self.turns: dict[int, int] = {}
        self._aim = Aim()
        self._labels: list[Tensor] = []
        self._seen: Counter[int] = Counter()

    def on_fit_start(self, trainer: Trainer) -> None:
        if trainer.step == 0:
            self._forget()
        self._aim = aim(trainer.criterion)
        if not trainer.first:
            self._seen.clear()  # the first rank has what was counted before

    def on_step_end(self, trainer: Trainer) -> None:
        # Kept as they are: counting them would wait for the device.
        if trainer.labels is not None and trainer.labels.ndim == 1:
            self._labels.append(trainer.labels)
        if trainer.step == 1 or trainer.step % self.every == 0:
            self._count()
            self._look(trainer)

    def on_epoch_end(self, trainer: Trainer) -> None:
        self._count()
        # Each rank has its share of every batch; this is the only word between them.
        for text in ranks.said(json.dumps(sorted(self._seen.items()))):
            for label, turns in json.loads(text):
                self.turns[label] = self.turns.get(label, 0) + turns
        self._seen.clear()
        found: list[Symptom | None] = []
        if not self._aim.proxies:
            # Of other people, whom proxies do not know, their loss says nothing.
            found.append(shortages.overfitting(trainer.log))
        images = None if trainer.feed is None else trainer.feed.dataset
        if isinstance(images, ImageSet) and self.turns:
            pictures = Counter(images.labels.tolist())
            names = images.identities
            step = trainer.step
            found.append(shortages.starving(self.turns, pictures, names=names, step=step))
        self._say(found, trainer)

    def state_dict(self) -> dict[str, Any]:
        self._count()
        return {
            "findings": [asdict(each) for each in self.findings],
            "record": self.record.state_dict(),
            "turns": dict(self.turns),
            "seen": dict(self._seen),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.findings = [Symptom(**each) for each in state["findings"]]
        self.record = Record.from_state(state["record"])
        self.turns, self._seen = dict(state["turns"]), Counter(state["seen"])

    def _count(self) -> None:
        for labels in self._labels:
            self._seen.update(torch.unique(labels).tolist())
        self._labels.clear()

    def _look(self, trainer: Trainer) -> None:
        if trainer.embeddings is None or trainer.labels is None or trainer.embeddings.ndim != 2:
            return
        new = look(
            trainer.embeddings,
            trainer.labels,
            distance=self._aim.distance,
            step=trainer.step,
            loss=trainer.loss,
            gradient=trainer.gradient_norm,
            rate=float(trainer.optimizer.param_groups[0]["lr"]),
        )
        self.record.add(new)
        rows = min(new.rows, trainer.micro_batch or new.rows) * trainer.ranks
        norms = len(batch_norms(trainer.net))
        tiny = shortages.tiny_batches(norms=norms, rows=rows, step=trainer.step)
        self._say([tiny, *_symptoms(self.record, self._aim)], trainer)

    def _say(self, found: list[Symptom | None], trainer: Trainer) -> None:
        for symptom in found:
            if symptom is None:
                continue
            before = [each.degree for each in self.findings if each.name == symptom.name]
            worst = max(before, default=0.0)
            if before and (math.isinf(worst) or symptom.degree < WORSE * worst):
                continue
            self.findings.append(symptom)
            if trainer.first:
                (self.write or sys.stderr.write)(f"{symptom}\n")


def aim(loss: object) -> Aim:
    """What a loss measures by; of a sum, the first part that has pairs.

    Example:
        >>> aim(TripletLoss(margin=0.5))[1:]
        (0.5, True, False)
        >>> aim(nn.MSELoss()) == Aim()
        True
    """
    modules = list(loss.modules()) if isinstance(loss, nn.Module) else []
    proxies = any(isinstance(module, Proxies) for module in modules)
    for module in modules:
        if isinstance(module, PairLoss):
            margin, between = None, False
            if module.references in (None, itself):
                margin, between = _margin(module)
            return Aim(module.distance, margin, between, proxies)
    return Aim(proxies=proxies)


def _margin(loss: PairLoss) -> tuple[float | None, bool]:
    if isinstance(loss, ContrastiveLoss):
        return loss.margin, False
    hinged = isinstance(loss, BatchHardLoss) and loss.penalty is torch.relu
    if hinged or isinstance(loss, TripletLoss | SemiHardTripletLoss):
        return float(loss.margin), True  # type: ignore[arg-type]
    return None, False


def _symptoms(record: Record, aim: Aim) -> Iterator[Symptom | None]:
    """What the looks show; of what follows from one another, what comes first."""
    exploding = symptoms.exploding_norms(record)
    diverging = symptoms.high_learning_rate(record)
    collapse = symptoms.collapse(record, margin=aim.margin)
    yield exploding
    yield None if exploding else diverging
    yield collapse
    if exploding or diverging or collapse:
        return
    yield symptoms.narrow_embeddings(record)
    yield symptoms.idle_loss(record)
    if aim.margin is not None and math.isfinite(aim.margin):
        yield symptoms.unreachable_margin(record, margin=aim.margin, between=aim.between)
