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

from siamlearn import ranks
from siamlearn.data.image_set import ImageSet
from siamlearn.data.randomness import address
from siamlearn.data.samplers import BalancedSampler
from siamlearn.data.transforms import Augment
from siamlearn.nn.losses import Summand, SupConLoss
from siamlearn.nn.nets import EmbeddingNet, NetConfig, shrunk
from siamlearn.nn.whitening import several, told_apart
from siamlearn.train.callbacks import Callback
from siamlearn.train.describing import written
from siamlearn.train.doctor import Doctor
from siamlearn.train.ending import Ending, is_done
from siamlearn.train.keeping import Checkpoint
from siamlearn.train.loading import Run
from siamlearn.train.reporting import LogLines, Progress
from siamlearn.train.restarting import advice, going_on, run_folder, say
from siamlearn.train.runs import split_section
from siamlearn.train.trainer import Trainer

__all__ = ["fit"]

STEPS, EPOCHS = 300, 8  # at least so many of each
AVERAGE = 0.99  # share of itself that the average of the weights keeps each step
WARM_UP = 0.1  # share of the steps in which the learning rate rises
WHITENED = 28  # pixels of the longer side of the whitened copy, about
SIDE = 60  # pixels of the longer side that a net looks at, about
MIRRORED = 0.7  # share of what pixels tell about people that a mirror may leave over


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
    micro_batch: int | None = None,
    weights: str | Path | None = None,
    folder: str | Path | None = None,
    resume: bool | str | Path | None = None,
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
        micro_batch: pictures that go through the net at once, where memory is short; the loss is
            still that of the whole batch. Batch norms take their statistics from these pieces.
        weights: a folder that ``net.save`` wrote, to start from; its net is taken, too.
        folder: name of the run's folder, ``runs``; where there is one with something in it,
            ``runs1`` is made, and so on. It gets config, log, checkpoints and weights, and
            :func:`siamlearn.load_run` reads it. Nothing is written if left out.
        resume: True goes on with the run in exactly this folder from its last checkpoint, begins
            it where there is none, and returns it at once where it is finished: the same program
            may be started again until it is done. The name of a run's folder goes on with that
            one. All else is passed as it was then.
        config: sections for the folder's ``config.json``, besides or instead of our own.
        callbacks: besides those that the folder needs; a progress bar, and a ``Doctor`` who
            speaks up where something goes wrong, if left out.

    Raises:
        ValueError: there are no two identities, or none with two pictures; or the run to go on
            with was begun with other pictures or settings, which are named.

    Example:
        >>> from siamlearn.data.drawn import DrawnFaces
        >>> faces = DrawnFaces(4, 4, size=(28, 23))
        >>> run = fit(faces, epochs=1, callbacks=())
        >>> run.net.config.input, len(run.log)
        ((1, 28, 23), 1)
    """
    device = ranks.joined(device)
    where, begun = run_folder(folder, resume)
    sampler = balanced(images, identities=identities, pictures=pictures, seed=seed)
    model = started(images, net=net, weights=weights, mirror=mirror, seed=seed)
    small = images.shaped(model.config.input)
    model.whiten(small.pixels, small.labels)
    checks = None if validation is None else validation_loader(validation, model, sampler)
    epochs = max(EPOCHS, math.ceil(STEPS / len(sampler))) if epochs is None else epochs
    optimizer = AdamW(parameter_groups(model, weight_decay), lr=learning_rate)
    callbacks = [Progress(), Doctor()] if callbacks is None else callbacks
    trainer = Trainer(
        model,
        loss or SupConLoss(temperature=0.1),
        optimizer,
        schedule=LambdaLR(optimizer, WarmCosine(epochs * len(sampler))),
        augment=augment or replace(Augment(), flip=0.5 if model.config.mirror else 0.0),
        callbacks=[*callbacks, *recorders(where)],
        loss_lr=loss_lr,
        average=AVERAGE,
        precision=precision or quickest_precision(device),
        micro_batch=micro_batch,
        device=device,
        seed=seed,
    )
    again = None
    if where is not None:
        settings: dict[str, Any] = {"epochs": epochs, "seed": seed, "identities": sampler.rows}
        settings |= {"pictures": sampler.parts, "learning_rate": learning_rate, "loss_lr": loss_lr}
        settings |= {"weight_decay": weight_decay, "weights": weights and str(weights)}
        sections = {"net": model.config, "split": parts(images, validation)} | (config or {})
        sections["fit"] = settings | described(trainer)
        finished, again = going_on(where, begun, sections)
        if finished:
            say(callbacks, f"{where} is finished: its net is as it was trained")
            return Run(where)
    batches = DataLoader(small, batch_sampler=sampler)
    trainer.fit(batches, epochs=epochs, validation=checks, resume=again)
    if not is_done(trainer):
        say(callbacks, advice(where, resume))
    return Run(where, trainer)


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


def parts(images: ImageSet, validation: ImageSet | None) -> dict[str, Any]:
    """Who was trained on, and who was validated on."""
    section = split_section(images, train=images)
    if validation is not None:
        section |= split_section(validation, validation=validation)
    return section


def recorders(folder: Path | None) -> list[Callback]:
    """What a run folder needs: the log, the checkpoints, the net and a word on how it ended."""
    if folder is None:
        return []
    log, kept = folder / "metrics.jsonl", folder / "checkpoints"
    return [Ending(folder), LogLines(log), Checkpoint(kept, every=5)]


def described(trainer: Trainer) -> dict[str, Any]:
    """What else makes a run what it is, in words."""
    return {
        "loss": written(trainer.criterion),
        "augment": written(trainer.augment),
        "precision": trainer.precision,
        "micro_batch": trainer.micro_batch,
        "device": str(trainer.device),
    }
