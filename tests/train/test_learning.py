"""What the loss learns is put into the optimizer by the trainer, and comes back when it resumes."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adagrad, AdamW
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    OneCycleLR,
    SequentialLR,
    StepLR,
)
from torch.utils.data import DataLoader

from siamlearn.data.drawn import DrawnFaces
from siamlearn.data.samplers import PairSampler
from siamlearn.fitting import fit
from siamlearn.nn.losses import InfoNCELoss, ProxyAnchorLoss, SupConLoss
from siamlearn.nn.references import Memory, Proxies
from siamlearn.train.callbacks import Callback
from siamlearn.train.keeping import Checkpoint
from siamlearn.train.trainer import Trainer


def a_net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))


def a_loss(**how):
    return InfoNCELoss(0.2, references=Proxies(4, 4, **how))


def a_trainer(tiny, loss, *, optimizer=AdamW, scheduled=True, **options):
    net = a_net()
    optimizing = optimizer(net.parameters(), lr=0.02)
    schedule = StepLR(optimizing, 4, gamma=0.5) if scheduled else None
    options = {"callbacks": (), "device": "cpu", **options}
    return Trainer(net, loss, optimizing, schedule=schedule, **options)


def batches(tiny):
    images = tiny.pictures()
    sampler = PairSampler(images.labels, pairs=4, batches=5)
    return DataLoader(images, batch_sampler=sampler)


class Stop(Callback):
    """Cuts a run off after some steps."""

    def __init__(self, at):
        self.at = at

    def on_step_end(self, trainer):
        if trainer.step == self.at:
            trainer.stop("cut off")


def test_proxies_learn_at_the_rate_of_the_net_or_at_their_own(tiny):
    for own, expected in ((None, 0.02), (0.5, 0.5)):
        loss = a_loss()
        before = loss.references.vectors.detach().clone()
        trainer = a_trainer(tiny, loss, loss_lr=own)
        net, learned = trainer.optimizer.param_groups

        assert learned["params"] == [loss.references.vectors]
        assert (net["lr"], learned["lr"]) == (0.02, expected)
        assert (net["weight_decay"], learned["weight_decay"]) == (0.01, 0.0)

        trainer.fit(batches(tiny), epochs=1)
        assert (loss.references.vectors != before).all()
        # The schedule, which was made before, halves both.
        assert [group["lr"] for group in trainer.optimizer.param_groups] == [0.01, expected / 2]


def test_what_the_optimizer_has_already_is_left_where_it_is(tiny):
    net, loss = a_net(), a_loss()
    optimizer = SGD([{"params": net.parameters()}, {"params": loss.parameters(), "lr": 3.0}], 0.1)
    Trainer(net, loss, optimizer, callbacks=())
    Trainer(net, loss, optimizer, callbacks=())

    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 3.0]


def test_proxies_of_a_net_that_stands_still_learn_all_the_same(tiny):
    net, loss = a_net(), a_loss()
    before = loss.references.vectors.detach().clone()
    optimizer = SGD(net.parameters(), lr=0.0)
    schedule = StepLR(optimizer, 2)
    Trainer(net, loss, optimizer, schedule=schedule, loss_lr=0.5, callbacks=()).fit(
        batches(tiny), epochs=1
    )

    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.5]
    assert (loss.references.vectors != before).any()


def test_a_second_trainer_adds_nothing_and_the_schedule_goes_on(tiny):
    first = a_trainer(tiny, a_loss(), loss_lr=0.5)
    again = Trainer(
        first.net, first.criterion, first.optimizer, schedule=first.schedule, callbacks=()
    )
    again.fit(batches(tiny), epochs=1)

    assert [group["lr"] for group in first.optimizer.param_groups] == [0.01, 0.25]


def test_named_parameters_stay_named(tiny):
    net, loss = a_net(), a_loss()
    optimizer = SGD(net.named_parameters(), lr=0.1)
    if "param_names" not in optimizer.param_groups[0]:
        pytest.skip("this torch does not name parameters")
    Trainer(net, loss, optimizer, callbacks=())

    assert optimizer.param_groups[1]["param_names"] == ["loss.references.vectors"]


@pytest.mark.parametrize(
    "made",
    [
        lambda optimizer: LambdaLR(optimizer, lambda step: 1 / (1 + step)),
        lambda optimizer: CosineAnnealingLR(optimizer, 9),
        lambda optimizer: OneCycleLR(optimizer, max_lr=0.5, total_steps=20),
        lambda optimizer: SequentialLR(
            optimizer, [StepLR(optimizer, 2), CosineAnnealingLR(optimizer, 9)], milestones=[4]
        ),
    ],
    ids=["lambda", "cosine", "one cycle", "sequence"],
)
def test_every_schedule_takes_the_loss_along(tiny, made):
    net, loss = a_net(), a_loss()
    optimizer = SGD(net.parameters(), lr=0.1)
    schedule = made(optimizer)
    begun = optimizer.param_groups[0]["initial_lr"]
    seen = []

    class Watch(Callback):
        def on_step_end(self, trainer):
            seen.append([group["lr"] for group in optimizer.param_groups])

    Trainer(net, loss, optimizer, schedule=schedule, loss_lr=3 * begun, callbacks=[Watch()]).fit(
        batches(tiny), epochs=2
    )

    assert len({first for first, _ in seen}) > 3
    assert [second for _, second in seen] == pytest.approx([3 * first for first, _ in seen])


@pytest.mark.parametrize("at", [2, 5, 8, 13])
@pytest.mark.parametrize(
    "loss",
    [
        a_loss,
        lambda: a_loss(sample=0.5),
        lambda: ProxyAnchorLoss(references=Proxies(4, 4)),
        lambda: SupConLoss(references=Memory(20)),
        lambda: SupConLoss(references=Memory(20, warm_up=3)),
    ],
    ids=["proxies", "sample", "anchors", "memory", "warm-up"],
)
def test_a_run_that_was_cut_off_ends_with_the_same_bits(tiny, tmp_path, loss, at):
    def fresh(*callbacks):
        criterion = loss()
        own = {"loss_lr": 0.3} if list(criterion.parameters()) else {}
        return a_trainer(tiny, criterion, callbacks=callbacks, **own)

    whole = fresh().fit(batches(tiny), epochs=3)
    fresh(Checkpoint(tmp_path), Stop(at)).fit(batches(tiny), epochs=3)
    resumed = fresh().fit(batches(tiny), epochs=3, resume=tmp_path)

    assert resumed.step == whole.step == 15
    assert tiny.digest(resumed) == tiny.digest(whole)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # torch's own optimizers
@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("optimizer", [SGD, Adagrad])
def test_sparse_and_dense_gradients_train_to_the_same_proxies(tiny, optimizer, clip):
    ended = []
    for sparse in (False, True):
        loss = a_loss(sample=0.5, sparse=sparse)
        trainer = a_trainer(tiny, loss, optimizer=optimizer, clip=clip)
        trainer.fit(batches(tiny), epochs=2)
        ended.append(loss.references.vectors.detach())

    torch.testing.assert_close(*ended)


def test_momentum_does_not_move_proxies_that_are_not_looked_at(tiny, tmp_path):
    def fresh(*callbacks):
        loss = InfoNCELoss(0.2, references=Proxies(400, 4, sample=0.01, sparse=True))
        with_momentum = partial(SGD, momentum=0.9, nesterov=True)
        return a_trainer(tiny, loss, optimizer=with_momentum, callbacks=callbacks)

    moved = []

    class Watch(Callback):
        def on_step_end(self, trainer):
            now = trainer.criterion.references.vectors.detach().clone()
            moved.append((now != moved.pop()).any(dim=1).sum().item())
            moved.append(now)

    watched = fresh(Watch())
    moved.append(watched.criterion.references.vectors.detach().clone())
    watched.fit(batches(tiny), epochs=3)
    fresh(Checkpoint(tmp_path), Stop(8)).fit(batches(tiny), epochs=3)
    resumed = fresh(Watch()).fit(batches(tiny), epochs=3, resume=tmp_path)

    assert moved[:15] == [8] * 15  # as many as there are pictures in a batch
    assert tiny.digest(resumed) == tiny.digest(watched)


def test_clipping_bounds_the_step_of_sparse_proxies_too(tiny):
    loss = a_loss(sample=0.5, sparse=True)
    before = loss.references.vectors.detach().clone()
    trainer = a_trainer(tiny, loss, optimizer=SGD, scheduled=False, clip=0.01, loss_lr=1.0)
    trainer.fit([next(iter(batches(tiny)))], epochs=1)

    assert 0 < (loss.references.vectors - before).norm() <= 0.0101


def test_validation_is_not_remembered(tiny):
    memory = Memory(100)
    trainer = a_trainer(tiny, SupConLoss(references=memory))
    trainer.fit(batches(tiny), epochs=1, validation=batches(tiny))

    assert memory.filled == 5 * 8


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_a_bad_batch_is_not_remembered(tiny, steps):
    good = [next(iter(batches(tiny)))]
    trainer = a_trainer(tiny, SupConLoss(references=Memory(20)))
    if steps:
        trainer.fit(good, epochs=steps)
    before = {name: value.clone() for name, value in trainer.criterion.state_dict().items()}
    bad = torch.full((8, 1, 6, 6), torch.nan), good[0][1]
    with pytest.raises(FloatingPointError):
        trainer.fit([bad], epochs=steps + 1)

    for name, value in trainer.criterion.state_dict().items():
        assert torch.equal(value, before[name]), name
    # It goes on as if there had been none.
    trainer.fit(good, epochs=steps + 1)
    assert trainer.criterion.references.filled == min(20, 8 * (steps + 1))


def test_fit_learns_proxies_and_resumes_to_the_same_bits(tmp_path):
    faces = DrawnFaces(4, 4, size=(16, 12))

    def run(**how):
        loss = ProxyAnchorLoss(references=Proxies(4, 956))
        return fit(faces, epochs=3, loss=loss, loss_lr=0.1, device="cpu", **how)

    whole = run(callbacks=())
    cut = run(callbacks=[Stop(2)], folder=tmp_path / "run")
    again = run(callbacks=(), resume=tmp_path / "run")

    assert cut.trainer.step == 2
    assert again.trainer.step == whole.trainer.step > 2
    assert torch.equal(
        again.trainer.criterion.references.vectors, whole.trainer.criterion.references.vectors
    )
    for name, value in whole.net.state_dict().items():
        assert torch.equal(again.net.state_dict()[name], value), name
