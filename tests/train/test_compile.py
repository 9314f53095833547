"""A compiled net trains as the net does, with all that goes with it."""

import shutil

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader

from siamlearn.data.samplers import PairSampler
from siamlearn.data.transforms import Augment
from siamlearn.nn.losses import ContrastiveLoss
from siamlearn.nn.references import Memory
from siamlearn.train.keeping import Checkpoint
from siamlearn.train.trainer import Trainer
from train.on_ranks import on_ranks

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def trained(tiny, *, compile, epochs=2, resume=None, norm=True, **options):
    torch._dynamo.reset()
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3) if norm else nn.Identity(),
        nn.LeakyReLU(),
        nn.Flatten(),
        nn.Linear(48, 4),
    )
    images = tiny.pictures()
    options = {"augment": Augment(), "clip": 1.0, "callbacks": (), "device": "cpu", **options}
    trainer = Trainer(
        net,
        ContrastiveLoss(references=Memory(11)),
        SGD(net.parameters(), lr=0.05, momentum=0.9),
        average=0.9,
        compile=compile,
        **options,
    )
    batches = DataLoader(images, batch_sampler=PairSampler(images.labels, pairs=5, batches=3))
    return trainer.fit(batches, epochs=epochs, validation=batches, resume=resume)


def outcome(trainer):
    return trainer.net.state_dict(), trainer.log


def assert_alike(one, other, within=0.0):
    for said in one, other:
        assert not isinstance(said, str), said
    torch.testing.assert_close(one[0], other[0], rtol=within, atol=within)
    for row, its in zip(one[1], other[1], strict=True):
        assert row == pytest.approx(its, rel=max(within, 1e-6))


@pytest.fixture
def in_child(tmp_path):
    """In a process of its own: one that has compiled cannot be forked into ranks any more."""

    def run(work):
        return on_ranks(1, tmp_path / "child", lambda rank: work())[0]

    return run


@pytest.mark.parametrize("options", [{}, {"norm": False, "micro_batch": 4}, {"accumulate": 2}])
def test_a_captured_net_trains_to_the_same_bits(tiny, in_child, options):
    captured = in_child(lambda: outcome(trained(tiny, compile="eager", **options)))
    assert_alike(captured, outcome(trained(tiny, compile=False, **options)))


def test_a_captured_net_is_saved_and_resumed_as_the_net(tiny, tmp_path, in_child):
    folder = tmp_path / "checkpoints"
    in_child(lambda: trained(tiny, compile="eager", epochs=1, callbacks=[Checkpoint(folder)]).step)
    resumed = outcome(trained(tiny, compile=False, resume=folder))
    assert_alike(resumed, outcome(trained(tiny, compile=False)))


def test_a_captured_net_trains_on_ranks(tiny, tmp_path):
    one = outcome(trained(tiny, compile=False))
    for said in on_ranks(2, tmp_path, lambda rank: outcome(trained(tiny, compile="eager"))):
        assert_alike(said, one, within=1e-4)


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler")
def test_a_compiled_net_trains_alike(tiny, in_child):
    compiled = in_child(lambda: outcome(trained(tiny, compile=True)))
    assert_alike(compiled, outcome(trained(tiny, compile=False)), within=1e-3)
