"""Proof 7: a batch in pieces costs what it costs whole, and teaches the same."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader

import siamlearn as sl
from known.trials import a_module, assert_same, every_loss
from siamlearn.data.samplers import PairSampler
from siamlearn.data.transforms import Augment
from siamlearn.nn.losses import ContrastiveLoss, InfoNCELoss, MultiSimilarityLoss
from siamlearn.nn.references import Memory, Proxies
from siamlearn.train.feed import Batch
from siamlearn.train.passes import Passes, Place, backward_in_pieces
from siamlearn.train.trainer import Trainer
from train.on_ranks import on_ranks

N = 11
SIZES = [1, 4, 10]


def a_net(dropout=0.0):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Dropout(dropout), nn.Flatten(), nn.Linear(48, 3)
    )
    return net.double()


def pieces_of(size):
    return [slice(start, start + size) for start in range(0, N, size)]


def a_batch():
    images = torch.randn(N, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    return images.double(), torch.arange(N) % 4


def learned(*modules):
    return tuple(
        torch.zeros(()) if p.grad is None else p.grad for m in modules for p in m.parameters()
    )


def embedder(net, images):
    """Dropout draws by the number of the piece."""

    def embed(piece, rows):
        torch.manual_seed(piece)
        return net(images[rows])

    return embed


def in_pieces(loss, size, dropout):
    net, criterion, (images, labels) = a_net(dropout), a_module(loss), a_batch()

    def price(embeddings):
        cost = criterion(embeddings, labels)
        cost.backward()
        return cost.detach()

    cost = backward_in_pieces(embedder(net, images), price, pieces_of(size))
    return cost, *learned(net, criterion)


def whole(loss, size, dropout):
    """The same pieces, all of them remembered."""
    net, criterion, (images, labels) = a_net(dropout), a_module(loss), a_batch()
    embed = embedder(net, images)
    embeddings = [embed(piece, rows) for piece, rows in enumerate(pieces_of(size))]
    cost = criterion(torch.cat(embeddings), labels)
    cost.backward()
    return cost.detach(), *learned(net, criterion)


def accumulated(loss, size, dropout):
    """What other trainers do: the loss of each piece for itself."""
    net, criterion, (images, labels) = a_net(dropout), a_module(loss), a_batch()
    embed, total = embedder(net, images), torch.zeros(())
    for piece, rows in enumerate(pieces_of(size)):
        cost = criterion(embed(piece, rows), labels[rows]) * len(labels[rows]) / N
        cost.backward()
        total = total + cost.detach()
    return total, *learned(net, criterion)


@every_loss
@pytest.mark.parametrize("size", SIZES)
def test_pieces_equal_the_whole_batch_with_dropout_on(loss, size):
    assert_same(in_pieces(loss, size, 0.4), whole(loss, size, 0.4), within=1e-12)


@every_loss
def test_pieces_equal_the_batch_in_one_piece(loss):
    assert_same(in_pieces(loss, 4, 0.0), whole(loss, N, 0.0), within=1e-12)


@every_loss
def test_adding_up_the_losses_of_pieces_would_be_found(loss):
    with pytest.raises(AssertionError):
        assert_same(accumulated(loss, 4, 0.0), whole(loss, 4, 0.0), within=1e-12)


CHOICES = {
    "all pairs": ContrastiveLoss,
    "a miner's pairs": partial(InfoNCELoss, 0.5),
    "proxies": lambda: InfoNCELoss(0.5, references=Proxies(4, 4)),
    "sampled proxies": lambda: InfoNCELoss(0.5, references=Proxies(40, 4, sample=0.3)),
    "a memory": lambda: ContrastiveLoss(references=Memory(11, warm_up=1)),
    "a sum": lambda: ContrastiveLoss() + MultiSimilarityLoss(),
    "a function": lambda: lambda embeddings, labels: embeddings.square().sum(1).std(),
}


@pytest.fixture
def doubles():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def trained(tiny, choice="all pairs", micro_batch=None, **options):
    images = tiny.pictures()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 4))
    options = {"augment": Augment(), "clip": 1.0, "callbacks": (), "device": "cpu", **options}
    optimizer = SGD(net.parameters(), lr=0.05, momentum=0.9)
    trainer = Trainer(net, CHOICES[choice](), optimizer, micro_batch=micro_batch, **options)
    batches = DataLoader(images, batch_sampler=PairSampler(images.labels, pairs=5, batches=3))
    trainer.fit(batches, epochs=2, validation=batches)
    return trainer


def assert_alike(one, other, within=1e-12):
    states = one.net.state_dict(), other.net.state_dict()
    torch.testing.assert_close(*states, rtol=within, atol=within)
    for row, its in zip(one.log, other.log, strict=True):
        assert row == pytest.approx(its, rel=max(within, 1e-11))


@pytest.mark.parametrize("choice", CHOICES)
def test_training_in_pieces_equals_training(tiny, doubles, choice):
    assert_alike(trained(tiny, choice, 3), trained(tiny, choice))


def test_pieces_accumulate_and_average(tiny, doubles):
    options = {"accumulate": 2, "average": 0.9}
    assert_alike(trained(tiny, "a memory", 4, **options), trained(tiny, "a memory", **options))


def test_an_augmentation_that_draws_for_a_whole_batch_draws_the_same(tiny, doubles):
    assert_alike(
        trained(tiny, micro_batch=3, augment=tiny.noisy), trained(tiny, augment=tiny.noisy)
    )


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_pieces_in_mixed_precision_are_as_near_as_that_is(tiny, precision):
    one, other = (trained(tiny, micro_batch=m, precision=precision) for m in (3, None))
    assert_alike(one, other, within=0.02)
    assert one.log[-1]["loss"] != trained(tiny).log[-1]["loss"]  # it was mixed precision


def test_ranks_in_pieces_equal_one_process(tiny, tmp_path, doubles):
    def work(rank):
        trainer = trained(tiny, "a memory", 2)
        return trainer.net.state_dict(), trainer.log

    one = trained(tiny, "a memory")
    for state, log in on_ranks(3, tmp_path, work):
        torch.testing.assert_close(state, one.net.state_dict(), rtol=1e-12, atol=1e-12)
        assert log == [pytest.approx(row, rel=1e-11) for row in one.log]


def test_no_more_than_a_piece_goes_through_the_net_at_once(tiny):
    seen = []
    net = a_net()
    net.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    passes = Passes(net, ContrastiveLoss(), torch.device("cpu"), seed=0, micro_batch=4)
    passes.backward(Batch(*a_batch()), Place("forward", 0), scale=lambda loss: loss)
    assert seen == [4, 4, 3] * 2


def norms(norm):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), norm, nn.Flatten(), nn.Linear(64, 3))


def test_batch_norms_are_warned_of_and_count_each_piece_once(tiny):
    images, labels = a_batch()
    net = norms(nn.BatchNorm2d(4))
    optimizer = SGD(net.parameters(), lr=0.1)
    trainer = Trainer(net, ContrastiveLoss(), optimizer, micro_batch=4, callbacks=())
    says = (
        r"1 batch norms take their statistics from each piece of 4 .*benchmarks/micro_batch\.py of "
        r".* by how much\. Use group norms, or freeze them: .*; or .*, of 32 pictures or more"
    )
    with pytest.warns(UserWarning, match=says):
        trainer.fit([(images.float(), labels)], epochs=1)
    assert net[1].num_batches_tracked == 3


@pytest.mark.parametrize(
    "norm", [lambda: nn.GroupNorm(2, 4), lambda: nn.BatchNorm2d(4).requires_grad_(False)]
)
def test_the_remedies_for_batch_norms_are_exact_and_silent(tiny, doubles, norm):
    images, labels = a_batch()

    def outcome(micro_batch):
        net = norms(norm())
        optimizer = SGD(net.parameters(), lr=0.1)
        trainer = Trainer(net, ContrastiveLoss(), optimizer, micro_batch=micro_batch, callbacks=())
        trainer.fit([(images, labels)] * 2, epochs=1)
        return {name: value.clone() for name, value in net.state_dict().items()}

    torch.testing.assert_close(outcome(4), outcome(None), rtol=1e-12, atol=1e-12)


def test_fit_passes_the_pieces_on_and_a_run_may_go_on_with_smaller_ones(tiny, tmp_path):
    faces, seen = sl.DrawnFaces(identities=4, pictures=4, size=(12, 10)), []

    class Seen(sl.Callback):
        def on_fit_start(self, trainer):
            trainer.net.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))

        def on_step_end(self, trainer):
            if len(trainer.log) == 3:
                trainer.stop("enough")

    def trained(micro_batch):
        net = sl.NetConfig(input=(1, 12, 10), blocks=(sl.ConvBlock(4, norm=False),))
        return sl.fit(
            faces,
            net=net,
            epochs=6,
            micro_batch=micro_batch,
            folder=tmp_path / "run",
            resume=True,
            callbacks=[Seen()],
        )

    assert trained(5).stopped == "enough"
    assert set(seen) == {5, 1}  # 16 pictures in a batch
    assert sl.load_run(tmp_path / "run").config["fit"]["micro_batch"] == 5
    seen.clear()
    with pytest.warns(
        UserWarning, match="resuming with other settings: micro_batch was 5 and is 4"
    ):
        assert trained(4).finished
    assert set(seen) == {4}


def test_no_piece_of_no_picture():
    net = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="micro_batch must be at least 1 picture at a time, got 0"):
        Trainer(net, ContrastiveLoss(), SGD(net.parameters()), micro_batch=0)
