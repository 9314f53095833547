"""From pictures to a trained net in one call, with defaults for pictures of any kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from siamlearn.data.image_set import ImageSet
from siamlearn.data.randomness import address
from siamlearn.data.samplers import BalancedSampler
from siamlearn.data.transforms import Augment
from siamlearn.nn.losses import Summand, SupConLoss
from siamlearn.nn.nets import EmbeddingNet, NetConfig, shrunk
from siamlearn.nn.whitening import several, told_apart
from siamlearn.train.callbacks import Callback
from siamlearn.train.checkpoint import latest
from siamlearn.train.keeping import Checkpoint
from siamlearn.train.reporting import LogLines, Progress
from siamlearn.train.runs import new_run_folder, split_section, write_config
from siamlearn.train.trainer import Trainer

__all__ = ["Run", "fit"]

STEPS, EPOCHS = 300, 8  # at least so many of each
AVERAGE = 0.99  # share of itself that the average of the weights keeps each step
WARM_UP = 0.1  # share of the steps in which the learning rate rises
WHITENED = 28  # pixels of the longer side of the whitened copy, about
SIDE = 60  # pixels of the longer side that a net looks at, about
MIRRORED = 0.7  # share of what pixels tell about people that a mirror may leave over


@final
@dataclass(frozen=True, eq=False)
class Run:
    """A training that has ended.

    Args:
        net: the trained net, ready to embed.
        trainer: what trained it, with the ``log`` of all epochs.
        folder: where config, log, checkpoints and weights are, if anywhere.

    Example:
        >>> from siamlearn.data.drawn import DrawnFaces
        >>> run = fit(DrawnFaces(3, 3, size=(12, 10)), epochs=2, callbacks=())
        >>> [row["epoch"] for row in run.log]
        [1, 2]
    """

    net: EmbeddingNet
    trainer: Trainer
    folder: Path | None = None

    @property
    def log(self) -> list[dict[str, float]]:
        """One row an epoch: epoch, step, loss, learning rate, and what callbacks added."""
        return self.trainer.log

    @property
    def stopped(self) -> str | None:
        """Why training ended before its last epoch; None where it did not."""
        return self.trainer.stopped

    def __repr__(self) -> str:
        ended = f"stopped: {self.stopped}" if self.stopped else "done"
        where = "" if self.folder is None else f", folder={str(self.folder)!r}"
        return f"Run({self.trainer.epoch} epochs, {self.trainer.step} steps, {ended}{where})"


def fit(
    images: ImageSet,
    *,
    validation: ImageSet | None = None,
    epochs: int | None = None,
    net: NetConfig | None = None,
    loss: Summand | None = None,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    mirror: bool | None = None,
    identities: int = 16,
    pictures: int = 4,
    learning_rate: float = 2e-3,
    loss_lr: float | None = None,
    weight_decay: float = 0.05,
    seed: int = 0,
    device: str | torch.device | None = None,
    precision: str | None = None,
    weights: str | Path | None = None,
    folder: str | Path | None = None,
    resume: str | Path | None = None,
    config: dict[str, Any] | None = None,
    callbacks: Sequence[Callback] | None = None,
) -> Run:
    """Train a net to tell the identities of these pictures apart, and others like them.

    The defaults are for pictures of any size, grey or coloured, of ten or ten thousand
    identities: a net sized to the pictures, supervised contrastive loss over all pairs of a
    batch, AdamW with a warm-up and a cosine, a running average of the weights. They were chosen
    by scores on training people; ``docs/explanation/defaults.md`` has them.

    Args:
        images: the pictures to learn from; at least two identities with two pictures each.
        validation: pictures of other people, whose loss is put into the log each epoch.
        epochs: passes over the pictures; as many as make 300 steps if left out, at least 8.
        net: what the net looks like; if left out, ``NetConfig.preset("small")`` for these
            pictures, with a whitened copy.
        loss: what is wanted of a batch.
        augment: what happens to the pictures of each batch; ``Augment()`` if left out.
        mirror: whether a mirrored picture shows the same identity (a face does, a signature does
            not); judged from the pictures if left out.
        identities: different ones in a batch; all of them if there are fewer.
        pictures: of each of them in a batch.
        learning_rate: the highest of the schedule.
        loss_lr: that of what the loss learns itself, such as proxies; the same if left out.
        weight_decay: of AdamW; batch norms and biases are spared.
        seed: the same seed gives the same run.
        device: where to train; a GPU if there is one.
        precision: "float32", "bfloat16" or "float16"; bfloat16 where it is fast, if left out.
        weights: a folder that ``net.save`` wrote, to start from; its net is taken, too.
        folder: name of the run's folder, ``runs``; where there is one with something in it,
            ``runs1`` is made, and so on. It gets config, log, checkpoints and weights. Nothing
            is written if left out.
        resume: the folder of a run that was cut off, to go on with from its last checkpoint; all
            else is passed as it was then.
        config: sections for the folder's ``config.json``, besides or instead of our own.
        callbacks: besides those that the folder needs; a progress bar if left out.

    Raises:
        ValueError: there are no two identities, or none with two pictures.

    Example:
        >>> from siamlearn.data.drawn import DrawnFaces
        >>> faces = DrawnFaces(4, 4, size=(28, 23))
        >>> run = fit(faces, epochs=1, callbacks=())
        >>> run.net.config.input, len(run.log)
        ((1, 28, 23), 1)
    """
    sampler = balanced(images, identities=identities, pictures=pictures, seed=seed)
    model = started(images, net=net, weights=weights, mirror=mirror, seed=seed)
    small = images.shaped(model.config.input)
    model.whiten(small.pixels, small.labels)
    checks = None if validation is None else validation_loader(validation, model, sampler)
    epochs = max(EPOCHS, math.ceil(STEPS / len(sampler))) if epochs is None else epochs
    optimizer = AdamW(parameter_groups(model, weight_decay), lr=learning_rate)
    where = run_folder(folder, resume)
    trainer = Trainer(
        model,
        loss or SupConLoss(temperature=0.1),
        optimizer,
        schedule=LambdaLR(optimizer, WarmCosine(epochs * len(sampler))),
        augment=augment or replace(Augment(), flip=0.5 if model.config.mirror else 0.0),
        callbacks=[*([Progress()] if callbacks is None else callbacks), *recorders(where)],
        loss_lr=loss_lr,
        average=AVERAGE,
        precision=precision or quickest_precision(device),
        device=device,
        seed=seed,
    )
    if where is not None and resume is None:
        settings: dict[str, Any] = {"epochs": epochs, "identities": sampler.rows}
        settings |= {"pictures": sampler.parts, "learning_rate": learning_rate}
        settings |= {"loss_lr": loss_lr, "weight_decay": weight_decay, "seed": seed}
        sections = {"net": model.config, "split": split_section(images, train=images)}
        write_config(where, **sections | (config or {}), fit=settings | described(trainer))
    again = None if resume is None or where is None else where / "checkpoints"
    trainer.fit(
        DataLoader(small, batch_sampler=sampler), epochs=epochs, validation=checks, resume=again
    )
    if where is not None:
        model.save(where / "net")
    return Run(model, trainer, where)


def started(
    images: ImageSet,
    *,
    net: NetConfig | None,
    weights: str | Path | None,
    mirror: bool | None,
    seed: int,
) -> EmbeddingNet:
    """The net before training: loaded, or new with weights drawn from the seed."""
    if weights is not None:
        if net is not None or mirror is not None:
            msg = "weights bring their own net: pass weights=, or net= and mirror=, not both"
            raise ValueError(msg)
        return EmbeddingNet.load(weights)
    if net is None:
        shape = reduced(images.shape)
        small = shrunk(*shape[1:], WHITENED)
        mirror = mirrors(images) if mirror is None else mirror
        net = NetConfig.preset("small", input=shape, whitened=small)
    if mirror is not None:
        net = replace(net, mirror=mirror)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(address("weights", seed))
        return EmbeddingNet(net)


def reduced(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """The shape that a net looks at: the sides divided by a whole number, the longer to about 60.

    Example:
        >>> reduced((1, 112, 92)), reduced((3, 160, 160)), reduced((1, 8, 8))
        ((1, 56, 46), (3, 53, 53), (1, 8, 8))
    """
    channels, height, width = shape
    return channels, *shrunk(height, width, SIDE)


def mirrors(images: ImageSet) -> bool:
    """Whether pictures look like their own identity in a mirror, judged from their pixels.

    Small copies of up to 1,000 pictures are compared with each other, and then with mirror
    images: if, of what the distance tells about the identity (AUC above one half), a mirror
    leaves 70 %, it does little harm. It leaves 80 % of faces and a third of handwritten digits.
    """
    chosen = several(torch.unique(images.labels, return_inverse=True)[1])
    some = images.subset(chosen.tolist())
    if len(some.people) < 2:
        return False
    small = some.resized(shrunk(*some.shape[1:], WHITENED)).pixels.float()
    told = told_apart(small.flatten(1), some.labels) - 0.5
    mirrored = told_apart(small.flatten(1), some.labels, small.flip(3).flatten(1)) - 0.5
    return mirrored >= MIRRORED * told > 0


def balanced(images: ImageSet, *, identities: int, pictures: int, seed: int) -> BalancedSampler:
    """Batches of several identities, as many as there are if there are few."""
    if not isinstance(images, ImageSet):
        msg = f"fit takes an ImageSet, such as sl.from_folder('faces'), got {images!r}"
        raise TypeError(msg)
    if min(identities, pictures) < 2:
        msg = (
            "a batch needs two identities and two pictures of each, to have negatives and "
            f"positives; got identities={identities} and pictures={pictures}"
        )
        raise ValueError(msg)
    people = len(images.people)
    most = int(images.labels.bincount().max()) if people else 0
    if people < 2 or most < 2:
        msg = (
            "learning needs two identities, and one with two pictures; "
            f"got {people} with at most {most}: add pictures"
        )
        raise ValueError(msg)
    return BalancedSampler(
        images.labels, identities=min(identities, people), images=pictures, seed=seed
    )


def validation_loader(
    images: ImageSet, net: EmbeddingNet, training: BalancedSampler
) -> DataLoader[Any]:
    """Fixed batches of validation pictures, put together as in training, none twice in a batch."""
    small = images.shaped(net.config.input)
    count = small.labels.bincount()
    fewest = int(count[count > 1].min()) if count.max() > 1 else 0
    pictures = min(training.parts, max(2, fewest))
    sampler = balanced(small, identities=training.rows, pictures=pictures, seed=0)
    batches = [sorted({*sampler.batch(0, k)}) for k in range(len(sampler))]
    return DataLoader(small, batch_sampler=batches)


def parameter_groups(net: EmbeddingNet, weight_decay: float) -> list[dict[str, Any]]:
    """Weights that decay, and batch norms and biases, which do not: they only shift and scale."""
    weights = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    return [
        {"params": weights, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


@final
@dataclass(frozen=True)
class WarmCosine:
    """The factor of the learning rate: a line up for a tenth of the steps, then half a cosine.

    Example:
        >>> [round(WarmCosine(10)(step), 2) for step in (0, 1, 5, 9)]
        [1.0, 1.0, 0.59, 0.03]
    """

    steps: int

    def __call__(self, step: int) -> float:
        warm = max(1, round(WARM_UP * self.steps))
        if step < warm:
            return (step + 1) / warm
        return (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm))) / 2


def quickest_precision(device: str | torch.device | None) -> str:
    """bfloat16 where the hardware multiplies it fast, else float32."""
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if torch.device(device).type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    # Older releases of torch cannot tell; float32 is right everywhere.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bfloat16" if capabilities.get("amx_bf16") else "float32"


def run_folder(folder: str | Path | None, resume: str | Path | None) -> Path | None:
    """The folder of the run to go on with; or the one given if it is empty, or one beside it."""
    if resume is not None:
        where = Path(resume)
        if folder is not None or not where.is_dir():
            msg = f"resume is the folder of an earlier run, without folder=; got {str(resume)!r}"
            raise ValueError(msg)
        if latest(where / "checkpoints") is None:
            # It was cut off before its first checkpoint: nothing is lost by starting anew.
            (where / "checkpoints").mkdir(exist_ok=True)
            (where / "metrics.jsonl").unlink(missing_ok=True)
        return where
    if folder is None:
        return None
    where = Path(folder)
    return where if where.is_dir() and not any(where.iterdir()) else new_run_folder(where)


def recorders(folder: Path | None) -> list[Callback]:
    """What a run folder needs: the log and the checkpoints."""
    if folder is None:
        return []
    return [LogLines(folder / "metrics.jsonl"), Checkpoint(folder / "checkpoints", every=5)]


def described(trainer: Trainer) -> dict[str, str]:
    """What else makes a run what it is, in words."""
    return {
        "loss": repr(trainer.criterion),
        "augment": repr(trainer.augment),
        "precision": trainer.precision,
        "device": str(trainer.device),
    }
