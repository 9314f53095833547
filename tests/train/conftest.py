"""A training small enough to be run hundreds of times, with everything in it that draws."""

import hashlib
import os
import random
import traceback
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR, SequentialLR
from torch.utils.data import DataLoader, Dataset

from siamlearn.data.image_set import ImageSet
from siamlearn.data.samplers import PairSampler
from siamlearn.nn.losses import ContrastiveLoss
from siamlearn.train import checkpoint
from siamlearn.train.callbacks import Callback
from siamlearn.train.trainer import Trainer


def pictures(people=4, each=3, side=6) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    n = people * each
    return ImageSet(
        torch.randint(256, (n, 1, side, side), generator=generator, dtype=torch.uint8),
        torch.arange(people).repeat_interleave(each),
        identities=[f"p{person}" for person in range(people)],
        names=[f"p{i // each}/{i % each}.png" for i in range(n)],
    )


class Jittered(Dataset):
    """Pictures whose transform draws from every generator there is."""

    def __init__(self, images: ImageSet) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index):
        pixels, label = self.images[index]
        noise = torch.rand(pixels.shape) * np.random.rand() * random.random()
        return pixels / 255 + noise, label


def noisy(images, generator):
    flipped = torch.rand(len(images), generator=generator) < 0.5
    images = torch.where(flipped[:, None, None, None], images.flip(3), images)
    return images + 0.1 * torch.randn(images.shape, generator=generator)


def net(seed=0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 3, 3),
            nn.BatchNorm2d(3),
            nn.LeakyReLU(),
            nn.Dropout(0.3),
            nn.Flatten(),
            nn.Linear(48, 4),
        )


def sgd(parameters):
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True)
    return optimizer, MultiStepLR(optimizer, [3, 7], gamma=0.5)


def adamw(parameters):
    first, *others = parameters
    optimizer = torch.optim.AdamW([{"params": [first], "lr": 0.02}, {"params": others}], lr=0.01)
    parts = [CosineAnnealingLR(optimizer, 4), CosineAnnealingLR(optimizer, 9)]
    return optimizer, SequentialLR(optimizer, parts, milestones=[4])


class Pollute(Callback):
    """Draw from and reseed every generator, differently in each run, wherever one can."""

    def __init__(self, seed: int) -> None:
        self.draws = random.Random(seed)

    def on_step_end(self, trainer):
        torch.manual_seed(self.draws.getrandbits(30))
        np.random.seed(self.draws.getrandbits(30))
        random.seed(self.draws.getrandbits(30))

    on_fit_start = on_epoch_start = on_epoch_end = on_step_end


def trainer(optimizing=sgd, callbacks=(), *, first=0, **options) -> Trainer:
    model = net(first)
    optimizer, schedule = optimizing(list(model.parameters()))
    options = {"augment": noisy, "seed": 5, "device": "cpu", **options}
    return Trainer(
        model, ContrastiveLoss(), optimizer, schedule=schedule, callbacks=callbacks, **options
    )


def batches(workers=0, number=7) -> DataLoader:
    images = pictures()
    sampler = PairSampler(images.labels, pairs=4, batches=number)
    return DataLoader(Jittered(images), batch_sampler=sampler, num_workers=workers)


def digest(trainer: Trainer) -> str:
    """Of everything that a checkpoint of it would hold."""
    found = hashlib.sha256()
    for content in checkpoint.serialized(**trainer.state_dict()).values():
        found.update(content)
    return found.hexdigest()


def in_child(work: Callable[[], None]) -> int:
    """Fork a process that has torch loaded, and return its id; it exits with 0 after the work."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads about
        child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


@pytest.fixture
def tiny():
    """The parts above, by name."""
    names = (pictures, net, sgd, adamw, Pollute, trainer, batches, digest, in_child, noisy)
    return type("Tiny", (), {part.__name__: staticmethod(part) for part in names})
