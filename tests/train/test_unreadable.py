"""A picture that one rank cannot read stops all of them, with its name, before any is updated."""

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader, Dataset

from siamlearn.data.samplers import PairSampler
from siamlearn.nn.losses import ContrastiveLoss
from siamlearn.train.callbacks import Callback
from siamlearn.train.trainer import Trainer
from train.on_ranks import on_ranks


class Files(Dataset):
    """Pictures that are read when they are asked for, of which some may be broken."""

    def __init__(self, *broken):
        self.broken = broken
        self.names = [f"p{index // 4}/{index % 4}.png" for index in range(16)]

    def __len__(self):
        return 16

    def __getitem__(self, index):
        if index in self.broken:
            msg = "image file is truncated"
            raise OSError(msg)
        return torch.full((3,), float(index)), torch.tensor(index // 4)


class Steps(Callback):
    def __init__(self):
        self.done = []

    def on_step_end(self, trainer):
        self.done.append(trainer.step)


def loader(*broken, workers=0):
    sampler = PairSampler(torch.arange(16) // 4, pairs=4, batches=6)
    return DataLoader(Files(*broken), batch_sampler=sampler, num_workers=workers)


def said_and_done(training, validation=None):
    torch.manual_seed(0)
    net, steps = nn.Linear(3, 2), Steps()
    trainer = Trainer(net, ContrastiveLoss(), SGD(net.parameters(), lr=0.01), callbacks=[steps])
    try:
        trainer.fit(training, epochs=1, validation=validation)
    except Exception as error:
        return f"{type(error).__name__}: {error}", steps.done
    return "", steps.done


def first_with(index):
    """The first batch in which a picture is."""
    batches = [*PairSampler(torch.arange(16) // 4, pairs=4, batches=6)]
    return next(k for k, batch in enumerate(batches) if index in batch)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_cannot_be_read_stops_all_ranks_and_is_named_by_all(tmp_path, workers):
    index = next(i for i in range(16) if 0 < first_with(i) < 5)
    told = on_ranks(2, tmp_path, lambda rank: said_and_done(loader(index, workers=workers)))

    assert sorted(text.split(":")[0] for text, _ in told) == ["RuntimeError", "ValueError"]
    for text, done in told:
        assert f"picture p{index // 4}/{index % 4}.png cannot be read: OSError: image" in text
        assert done == [*range(1, first_with(index) + 1)]


def test_so_does_one_of_the_validation(tmp_path):
    told = on_ranks(2, tmp_path, lambda rank: said_and_done(loader(), loader(5)))

    assert sorted(text.split(":")[0] for text, _ in told) == ["RuntimeError", "ValueError"]
    for text, done in told:
        assert "picture p1/1.png cannot be read: OSError: image file is truncated" in text
        assert len(done) == 6
