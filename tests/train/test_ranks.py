"""Proof 6: several ranks train as one process does, and stop together."""

import os
import signal
import time
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader

import siamlearn as sl
from siamlearn import ranks
from siamlearn.data.samplers import BalancedSampler, PairSampler
from siamlearn.data.transforms import Augment
from siamlearn.embeddings import embed
from siamlearn.functional.pairings import adjacent_pairs
from siamlearn.nn.losses import ContrastiveLoss, SupConLoss
from siamlearn.train import checkpoint
from siamlearn.train.callbacks import Callback
from siamlearn.train.keeping import Checkpoint
from siamlearn.train.trainer import Trainer
from train.conftest import pictures
from train.on_ranks import on_ranks
from train.the_losses import LOSSES, by_hand


def wide_net(norm=True, layer=None, last=None):
    torch.manual_seed(0)
    usual = nn.BatchNorm2d(3) if norm else nn.Identity()
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        usual if layer is None else layer,
        nn.LeakyReLU(),
        nn.Flatten(),
        nn.Linear(48, 4),
        nn.Identity() if last is None else last,
    )
    return net.to(torch.get_default_dtype())


@pytest.fixture(autouse=True)
def doubles():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def trained(tiny, loss, *, net=None, pairs=5, epochs=2, callbacks=(), resume=None, **options):
    images = tiny.pictures()
    net = net or wide_net()
    criterion = LOSSES[loss]()
    sampler = PairSampler(images.labels, pairs=pairs, batches=3)
    optimizer = SGD(net.parameters(), lr=0.05, momentum=0.0 if "sparse" in loss else 0.9)
    options = {"augment": Augment(), "device": "cpu", "clip": 1.0, **options}
    trainer = Trainer(net, criterion, optimizer, callbacks=callbacks, **options)
    batches = DataLoader(images, batch_sampler=sampler)
    trainer.fit(batches, epochs=epochs, validation=batches, resume=resume)
    return trainer


def state(trainer):
    learned = trainer.criterion.state_dict() if isinstance(trainer.criterion, nn.Module) else {}
    return {**trainer.net.state_dict(), **{f"loss.{k}": v for k, v in learned.items()}}


def outcome(trainer):
    return {"state": state(trainer), "log": trainer.log}


def assert_as_one(said, one):
    expected = one if isinstance(one, dict) else outcome(one)
    for each in said:
        assert not isinstance(each, str), each
        torch.testing.assert_close(each["state"], expected["state"], rtol=1e-12, atol=1e-12)
        for row, other in zip(each["log"], expected["log"], strict=True):
            assert row == pytest.approx(other, rel=1e-11)
    first, *others = said
    for each in others:  # to the bit
        assert all(torch.equal(value, each["state"][key]) for key, value in first["state"].items())
        assert each["log"] == first["log"]


@pytest.fixture(scope="module")
def of_every_loss(tmp_path_factory):
    """What two and three ranks make of every loss; they are started once for all of them."""
    tiny = SimpleNamespace(pictures=pictures)

    def tried(loss):
        try:
            return outcome(trained(tiny, loss))
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    def work(rank):
        torch.set_default_dtype(torch.float64)
        return {loss: tried(loss) for loss in LOSSES}

    folder = tmp_path_factory.mktemp("ranks")
    return {n: on_ranks(n, folder / f"{n}", work, patience=300) for n in (2, 3)}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("count", [2, 3])
def test_ranks_with_uneven_shares_train_as_one_process(tiny, of_every_loss, loss, count):
    assert_as_one([each[loss] for each in of_every_loss[count]], trained(tiny, loss))


LAYERS = {
    "of rows": {"last": lambda: nn.BatchNorm1d(4)},
    "the mean of all batches": {"layer": lambda: nn.BatchNorm2d(3, momentum=None)},
    "without weights": {"layer": lambda: nn.BatchNorm2d(3, affine=False)},
    "without an account": {"layer": lambda: nn.BatchNorm2d(3, track_running_stats=False)},
    "frozen": {"layer": lambda: nn.BatchNorm2d(3).requires_grad_(False)},
    "of groups": {"layer": lambda: nn.GroupNorm(3, 3)},
    "of pictures": {"layer": lambda: nn.InstanceNorm2d(3, affine=True)},
    "of pictures with an account": {
        "layer": lambda: nn.InstanceNorm2d(3, affine=True, track_running_stats=True)
    },
}


def of_every_layer(tiny, pairs=5, **options):
    found = {}
    for name, made in LAYERS.items():
        net = wide_net(**{place: make() for place, make in made.items()})
        found[name] = outcome(trained(tiny, "contrastive", net=net, pairs=pairs, **options))
    return found


@pytest.mark.parametrize(
    "options", [{}, {"pairs": 2}, {"accumulate": 2, "clip": 0.1, "average": 0.9}], ids=str
)
def test_norms_of_all_kinds_are_those_of_the_whole_batch(tiny, tmp_path, options):
    said = on_ranks(3, tmp_path, lambda rank: of_every_layer(tiny, **options))
    expected = of_every_layer(tiny, **options)
    for each in (*said, expected):
        assert isinstance(each, dict), each
        # In evaluation, a norm without an account is of the pictures that it is given: a share.
        for row in each["without an account"]["log"]:
            del row["val_loss"]
    for name in LAYERS:
        assert_as_one([each[name] for each in said], expected[name])


def test_half_precision_differs_by_its_rounding(tiny, tmp_path):
    def work():
        torch.set_default_dtype(torch.float32)
        net = wide_net(last=nn.BatchNorm1d(4))
        return outcome(trained(tiny, "usual lengths", net=net, precision="bfloat16"))

    said = on_ranks(3, tmp_path, lambda rank: work())
    expected = work()
    for each in said:
        assert isinstance(each, dict), each
        assert all(torch.equal(v, said[0]["state"][k]) for k, v in each["state"].items())
        # One part in 256 is what bfloat16 can tell apart, and it adds up over the steps.
        torch.testing.assert_close(each["state"], expected["state"], rtol=0.03, atol=0.03)
        for row, other in zip(each["log"], expected["log"], strict=True):
            assert row == pytest.approx(other, rel=0.03)


def test_dropout_is_each_ranks_own_and_leaves_them_equal(tiny, tmp_path):
    masks = []

    def work(rank):
        net = wide_net(last=nn.Dropout(0.5))
        net[-1].register_forward_hook(lambda *given: masks.append(given[2].detach() == 0))
        trainer = trained(tiny, "contrastive", net=net, epochs=1, pairs=4)
        return state(trainer), masks

    (one, first), (other, second) = on_ranks(2, tmp_path, work)
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert len(first) == len(second) > 3
    assert not any(torch.equal(*pair) for pair in zip(first[:3], second[:3], strict=True))


def test_a_rank_without_a_picture_takes_part(tiny, tmp_path):
    said = on_ranks(3, tmp_path, lambda rank: outcome(trained(tiny, "contrastive", pairs=2)))

    assert_as_one(said, trained(tiny, "contrastive", pairs=2))


def test_ranks_accumulate_average_and_follow_as_one(tiny, tmp_path):
    options = {"accumulate": 2, "average": 0.9}
    said = on_ranks(2, tmp_path, lambda rank: outcome(trained(tiny, "a memory", **options)))

    assert_as_one(said, trained(tiny, "a memory", **options))


def test_workers_of_ranks_read_their_shares(tiny, tmp_path):
    def work(workers):
        images, net = tiny.pictures(), wide_net()
        sampler = BalancedSampler(images.labels, identities=3, images=2, batches=3)
        loader = DataLoader(images, batch_sampler=sampler, num_workers=workers, collate_fn=_stacked)
        trainer = Trainer(net, SupConLoss(), SGD(net.parameters(), lr=0.05), callbacks=())
        return outcome(trainer.fit(loader, epochs=2))

    one = work(0)
    for each in on_ranks(2, tmp_path, lambda rank: work(1)):
        assert not isinstance(each, str), each
        torch.testing.assert_close(each["state"], one["state"], rtol=1e-12, atol=1e-12)


def _stacked(items):
    pixels, labels = zip(*items, strict=True)
    return torch.stack(pixels), torch.tensor([int(label) for label in labels])


def test_a_loop_that_forgot_the_others_would_be_found(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(ranks, "sum_gradients", lambda parameters: None)
    said = on_ranks(2, tmp_path, lambda rank: outcome(trained(tiny, "contrastive")))

    with pytest.raises(AssertionError):
        assert_as_one(said, trained(tiny, "contrastive"))


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 3)])
def test_a_checkpoint_of_some_ranks_is_resumed_on_others(tiny, tmp_path, before, after):
    folder = tmp_path / "checkpoints"

    def half(rank):
        trained(tiny, "a memory", epochs=1, callbacks=[Checkpoint(folder, steps=2)])

    def whole(rank):
        return outcome(trained(tiny, "a memory", resume=folder))

    on_ranks(before, tmp_path / "before", half)
    (latest, *_) = checkpoint.checkpoints(folder)
    assert latest.name == "step-0000000003"
    said = on_ranks(after, tmp_path / "after", whole)
    assert_as_one(said, trained(tiny, "a memory"))


class Late(Callback):
    """The first rank takes a while to write its last file."""

    def __init__(self, folder):
        self.folder = folder

    def on_fit_end(self, trainer):
        if trainer.first:
            time.sleep(0.3)
            (self.folder / "last").write_text("whole")


def test_what_the_first_rank_writes_last_is_there_when_fit_returns(tiny, tmp_path):
    def work(rank):
        trained(tiny, "contrastive", epochs=1, callbacks=[Late(tmp_path)])
        return (tmp_path / "last").read_text()

    assert on_ranks(2, tmp_path / "ranks", work) == ["whole"] * 2


def test_the_net_of_a_run_is_there_for_all_ranks_when_fit_returns(tmp_path):
    faces = sl.DrawnFaces(identities=4, pictures=4, size=(14, 12))

    def work(rank):
        torch.set_default_dtype(torch.float32)
        run = sl.fit(faces, epochs=1, folder=tmp_path / "run", callbacks=[])
        read = sl.load_run(tmp_path / "run")
        sl.EmbeddingNet.load(run.folder / "net")
        return read.finished, read.under_way, len(read.checkpoints)

    assert on_ranks(2, tmp_path / "ranks", work) == [(True, False, 1)] * 2


def test_a_net_that_all_ranks_save_at_once_is_whole_whoever_reads_it(tmp_path):
    net = sl.EmbeddingNet(sl.NetConfig.preset("small", input=(1, 14, 12)))

    def work(rank):
        for _ in range(20):
            sl.EmbeddingNet.load(net.save(tmp_path / "net"))
        return sorted(path.name for path in (tmp_path / "net").iterdir() if path.name[0] != ".")

    assert on_ranks(3, tmp_path / "ranks", work) == [["net.json", "net.safetensors"]] * 3
    assert len([*(tmp_path / "net").iterdir()]) == 2


def test_one_training_after_another_is_resumed_by_all_ranks(tiny, tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()

    def work(rank):
        kept = Checkpoint(folder)
        if rank == 0:
            kept._passing = lambda point: time.sleep(0.1)
        trained(tiny, "contrastive", epochs=1, callbacks=[kept])
        return outcome(trained(tiny, "contrastive", callbacks=[Checkpoint(folder)], resume=folder))

    assert_as_one(on_ranks(2, tmp_path / "ranks", work), trained(tiny, "contrastive"))


def test_the_first_rank_chooses_where_to_resume(tiny, tmp_path):
    # The others may see fewer checkpoints, or more, or go by what they saw of the folder before.
    folder = tmp_path / "checkpoints"
    trained(tiny, "contrastive", callbacks=[Checkpoint(folder, steps=2, keep=None)])
    chosen = checkpoint.place_of(folder, 2)

    def work(own, rank):
        return outcome(trained(tiny, "contrastive", resume=own[rank]))

    one = trained(tiny, "contrastive")
    for own in ([chosen, folder], [chosen, None], [None, chosen]):
        assert_as_one(on_ranks(2, tmp_path / "ranks", partial(work, own)), one)


def test_a_checkpoint_that_one_rank_cannot_read_stops_all(tiny, tmp_path):
    folder = tmp_path / "checkpoints"
    trained(tiny, "contrastive", epochs=1, callbacks=[Checkpoint(folder)])

    def work(rank):
        if rank == 1:  # on another machine, which sees another folder
            load = checkpoint.load
            checkpoint.load = lambda place: load(place.with_name("elsewhere"))
        return trained(tiny, "contrastive", resume=folder).step

    healthy, broken = on_ranks(2, tmp_path / "ranks", work)
    assert "elsewhere/MANIFEST.json cannot be read" in broken
    assert healthy.startswith("RuntimeError: all ranks stop, for one of them failed: rank 1: ")


def test_where_there_is_no_folder_to_resume_from_all_ranks_say_so(tiny, tmp_path):
    def work(rank):
        return trained(tiny, "contrastive", resume=tmp_path / "nowhere").step

    for said in on_ranks(2, tmp_path / "ranks", work):
        assert said.startswith(f"CheckpointError: there is no folder {tmp_path / 'nowhere'}")


class At(Callback):
    """Something that happens on one rank after a step."""

    def __init__(self, rank, step, what):
        self.rank, self.step, self.what = rank, step, what

    def on_step_end(self, trainer):
        if (trainer.rank, trainer.step) == (self.rank, self.step):
            self.what(trainer)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (lambda trainer: os.kill(os.getpid(), signal.SIGTERM), "SIGTERM"),
        (lambda trainer: trainer.stop("enough"), "enough"),
    ],
)
def test_what_stops_one_rank_stops_all_at_the_same_step(tiny, tmp_path, what, reason):
    folder = tmp_path / "checkpoints"

    def work(rank):
        callbacks = [At(1, 2, what), Checkpoint(folder)]
        trainer = trained(tiny, "contrastive", callbacks=callbacks)
        return trainer.step, trainer.stopped

    assert on_ranks(2, tmp_path / "ranks", work) == [(2, reason)] * 2
    assert [place.name for place in checkpoint.checkpoints(folder)] == ["step-0000000002"]
    done = trained(tiny, "contrastive", resume=folder)
    torch.testing.assert_close(state(done), state(trained(tiny, "contrastive")))


def test_what_stops_one_rank_at_an_epochs_end_stops_all(tiny, tmp_path):
    class Late(Callback):
        def on_epoch_end(self, trainer):
            if trainer.rank == 1:
                trainer.stop("late")

    def work(rank):
        trainer = trained(tiny, "contrastive", callbacks=[Late()])
        return trainer.epoch, trainer.step, trainer.stopped

    assert on_ranks(2, tmp_path, work) == [(1, 3, "late")] * 2


def test_a_picture_that_one_rank_cannot_read_stops_all_after_what_is_due(tiny, tmp_path):
    folder = tmp_path / "checkpoints"

    def work(rank):
        def spoil(trainer):
            trainer.feed.dataset.labels = trainer.feed.dataset.labels[:1]

        callbacks = [At(1, 2, spoil), Checkpoint(folder, steps=1, keep=None)]
        return trained(tiny, "contrastive", callbacks=callbacks).step

    healthy, broken = on_ranks(2, tmp_path / "ranks", work)
    assert broken.startswith("IndexError")
    assert healthy == f"RuntimeError: all ranks stop, for one of them failed: rank 1: {broken}"
    assert [place.name[-1] for place in checkpoint.checkpoints(folder)] == ["2", "1"]
    done = trained(tiny, "contrastive", resume=folder)
    torch.testing.assert_close(state(done), state(trained(tiny, "contrastive")))


def test_a_loss_that_is_not_finite_on_one_rank_stops_all(tiny, tmp_path):
    def work(rank):
        def spoil(trainer):
            trainer.feed.dataset.pixels = trainer.feed.dataset.pixels * float("nan")

        return trained(tiny, "contrastive", augment=None, callbacks=[At(1, 2, spoil)]).step

    for said in on_ranks(2, tmp_path, work):
        assert said.startswith("FloatingPointError: the loss is not finite at step 3")


def test_ranks_begin_with_the_weights_of_the_first(tiny, tmp_path):
    def work(rank):
        net = nn.Linear(3, 2)
        nn.init.constant_(net.weight, float(rank + 1))
        trainer = Trainer(net, by_hand, SGD(net.parameters(), lr=1e-9), callbacks=())
        trainer.fit([(torch.ones(4, 3), torch.arange(4))], epochs=1)
        return net.weight.detach()

    one, two = on_ranks(2, tmp_path, work)
    assert torch.equal(one, two)
    torch.testing.assert_close(one, torch.ones(2, 3), rtol=0, atol=1e-6)


def test_pairs_side_by_side_without_our_sampler_are_refused_on_ranks(tiny, tmp_path):
    def work(rank):
        net = nn.Linear(3, 2)
        loss = ContrastiveLoss(pairing=adjacent_pairs)
        trainer = Trainer(net, loss, SGD(net.parameters(), lr=0.1), callbacks=())
        trainer.fit([(torch.ones(4, 3), torch.arange(4))], epochs=1)

    for said in on_ranks(2, tmp_path, work):
        assert "needs a batch_sampler of ours, such as PairSampler" in said


@pytest.mark.parametrize("count", [2, 3])
def test_ranks_embed_each_a_share_and_get_everything(tiny, tmp_path, count):
    images = tiny.pictures(people=5, each=1)
    net, asked = wide_net(norm=False), []
    net.register_forward_pre_hook(lambda _, given: asked.append(len(given[0])))

    def work(rank):
        found = embed(net, images, batch=2)
        shared = sum(asked)
        asked.clear()
        return found.vectors, shared, embed(net, images, shared=False).vectors, sum(asked)

    said = on_ranks(count, tmp_path, work)
    expected = embed(net, images).vectors
    for vectors, _, own, alone in said:
        torch.testing.assert_close(vectors, expected)
        torch.testing.assert_close(own, expected)
        assert alone == 5
    assert sum(shared for _, shared, *_ in said) == 5
