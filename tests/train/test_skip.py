"""A step that is not finite may be left out, counted and bounded, if asked."""

import pytest
import torch
from torch import nn
from torch.optim import SGD

from siamlearn.train.callbacks import Callback
from siamlearn.train.keeping import Checkpoint
from siamlearn.train.trainer import Trainer


class Seen(Callback):
    def __init__(self):
        self.steps = []

    def on_step_end(self, trainer):
        self.steps.append((trainer.step, trainer.batch))


def batches(*bad, number=6):
    images = torch.arange(float(2 * number)).reshape(number, 2, 1) / 10
    for k in bad:
        images[k, 1] = float("nan")
    return [(x, torch.zeros(2).long()) for x in images]


def trained(data, *, skip, epochs=1, resume=None, callbacks=(), norm=False):
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm1d(1) if norm else nn.Identity(), nn.Linear(1, 1))
    trainer = Trainer(
        net,
        lambda embeddings, labels: embeddings.square().mean(),
        SGD(net.parameters(), lr=0.1, momentum=0.9),
        callbacks=callbacks,
        skip=skip,
    )
    return trainer.fit(data, epochs=epochs, resume=resume)


def test_a_bad_step_is_left_out_warned_of_and_counted():
    seen = Seen()
    with pytest.warns(UserWarning, match=r"left out: the loss is not finite at step 3.*batch 3"):
        trainer = trained(batches(2), skip=1, callbacks=[seen], norm=True)
    good = trained([b for k, b in enumerate(batches()) if k != 2], skip=0, norm=True)

    assert (trainer.step, trainer.skipped) == (5, 1)
    assert seen.steps == [(1, 1), (2, 2), (3, 4), (4, 5), (5, 6)]
    torch.testing.assert_close(trainer.net.state_dict(), good.net.state_dict(), rtol=0, atol=0)
    assert trainer.log[-1]["loss"] == good.log[-1]["loss"]


def test_one_more_than_asked_is_an_error_before_the_update():
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(FloatingPointError, match="the loss is not finite at step 3"),
    ):
        trained(batches(1, 3), skip=1)


def test_an_epoch_of_bad_steps_has_no_loss():
    with pytest.warns(UserWarning, match="left out"):
        trainer = trained(batches(0, 1, number=2), skip=2)
    assert (trainer.step, trainer.epoch) == (0, 1)
    assert trainer.log[-1]["loss"] != trainer.log[-1]["loss"]


def test_what_was_left_out_is_counted_over_a_resumed_run(tmp_path):
    with pytest.warns(UserWarning, match="left out"):
        trained(batches(1), skip=1, callbacks=[Checkpoint(tmp_path)])
    with pytest.raises(FloatingPointError):
        trained(batches(1), skip=1, epochs=2, resume=tmp_path)


def test_not_fewer_than_none_is_left_out():
    with pytest.raises(ValueError, match="skip must be at least 0 steps, got -1"):
        trained(batches(), skip=-1)
