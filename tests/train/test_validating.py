"""What is said where the loss of other pictures is not finite."""

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader

from siamlearn.data.samplers import PairSampler
from siamlearn.train.trainer import Trainer


def test_a_loss_of_other_pictures_that_is_not_finite_is_said_once_and_in_whom(tiny):
    images = tiny.pictures()
    images.pixels = images.pixels / 255
    sampler = PairSampler(images.labels, pairs=2, batches=3)
    batches = DataLoader(images, batch_sampler=sampler)
    others = tiny.pictures()
    others.pixels = others.pixels / 255
    checks = DataLoader(others, batch_sampler=[[0, 1, 3], [4, 5, 6], [7, 8, 9]])
    others.pixels[6] = float("nan")
    trainer = tiny.trainer(augment=None)
    says = (
        r"^val_loss is nan after epoch 1, and training goes on: the loss is not finite in 1 of 3 "
        r"batches, first in batch 2, which has pictures p1/1.png, p1/2.png, p2/0.png\. Look for bad"
    )
    with pytest.warns(UserWarning, match=says) as warned:
        trainer.fit(batches, epochs=3, validation=checks)
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert all(row["loss"] > 0 for row in trainer.log)
    others.pixels[6] = 0.5
    trainer.fit(batches, epochs=4, validation=checks)  # and is silent where it is good


def test_losses_of_other_pictures_that_add_up_to_too_much_are_told_apart():
    net = nn.Linear(1, 1, bias=False)
    nn.init.ones_(net.weight)
    trainer = Trainer(net, lambda given, _: given.mean(), SGD(net.parameters(), 0.0), callbacks=())
    one, large = ((torch.full((1, 1), value), torch.tensor([0])) for value in (1.0, 3e38))
    with pytest.warns(UserWarning, match="val_loss is inf after .*: the losses are too large"):
        trainer.fit([one], epochs=1, validation=[large] * 2)
