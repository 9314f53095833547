"""Proof 7: a batch in pieces costs what it costs whole, and teaches the same."""

import inspect
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader

import siamlearn as sl
from known import LOSSES as PAIR_LOSSES
from known.trials import a_module, assert_same, every_loss
from siamlearn.data.samplers import PairSampler
from siamlearn.data.transforms import Augment
from siamlearn.nn import losses
from siamlearn.nn.losses import ContrastiveLoss, InfoNCELoss, MultiSimilarityLoss
from siamlearn.nn.references import Memory, Proxies
from siamlearn.train.feed import Batch
from siamlearn.train.passes import Passes, Place, backward_in_pieces, channels_last
from siamlearn.train.randomness import seed_torch
from siamlearn.train.trainer import Trainer
from train.on_ranks import on_ranks
from train.the_losses import LOSSES

N = 12
SIZES = [1, 5, 10]
# Each picture costs what it costs, whoever is beside it: there is nothing that pieces could miss.
OF_EACH_PICTURE = {
    "a softmax",
    "a margin of cosines",
    "a margin of angles",
    "a multiple of angles",
    "three margins",
    "several centres",
    "lengths that cost",
    "lengths",
    "centres",
    "the mean",
    "regularisers beside",
    "several proxies a class",
    "proxies as classes",
}


def a_net(dropout=0.0):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Dropout(dropout), nn.Flatten(), nn.Linear(48, 4)
    )
    return net.double()


def pieces_of(size):
    return [slice(start, start + size) for start in range(0, N, size)]


def a_batch():
    images = torch.randn(N, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    # Some rows of the halves belong together, and some do not.
    return images.double(), torch.tensor([0, 1, 2, 3, 0, 1, 0, 1, 2, 0, 3, 1])


def learned(net, criterion):
    """The gradients, and what the loss has remembered of the batch."""
    modules = [part for part in (net, criterion) if isinstance(part, nn.Module)]
    gradients = [
        torch.zeros(()) if p.grad is None else p.grad.to_dense()
        for module in modules
        for p in module.parameters()
    ]
    remembered = [b.double() for b in modules[-1].buffers()] if len(modules) > 1 else []
    return *gradients, *remembered


def embedder(net, images):
    """Dropout draws by the number of the piece."""

    def embed(piece, rows):
        torch.manual_seed(piece)
        return net(images[rows])

    return embed


def in_pieces(loss, size, dropout):
    net, criterion, (images, labels) = a_net(dropout), loss(), a_batch()

    def price(embeddings):
        cost = criterion(embeddings, labels)
        cost.backward()
        return cost.detach()

    cost = backward_in_pieces(embedder(net, images), price, pieces_of(size))
    return cost, *learned(net, criterion)


def whole(loss, size, dropout):
    """The same pieces, all of them remembered."""
    net, criterion, (images, labels) = a_net(dropout), loss(), a_batch()
    embed = embedder(net, images)
    embeddings = [embed(piece, rows) for piece, rows in enumerate(pieces_of(size))]
    cost = criterion(torch.cat(embeddings), labels)
    cost.backward()
    return cost.detach(), *learned(net, criterion)


def accumulated(loss, size, dropout):
    """What other trainers do: the loss of each piece for itself."""
    net, criterion, (images, labels) = a_net(dropout), loss(), a_batch()
    embed, total = embedder(net, images), torch.zeros(())
    for piece, rows in enumerate(pieces_of(size)):
        cost = criterion(embed(piece, rows), labels[rows]) * len(labels[rows]) / N
        cost.backward()
        total = total + cost.detach()
    return total, *learned(net, criterion)


def of_a_kind(name):
    """A loss of the list, with the same parameters each time."""
    torch.manual_seed(0)
    loss = LOSSES[name]()
    return loss.double() if isinstance(loss, nn.Module) else loss


@every_loss
@pytest.mark.parametrize("size", SIZES)
def test_pieces_equal_the_whole_batch_with_dropout_on(loss, size):
    made = partial(a_module, loss)
    assert_same(in_pieces(made, size, 0.4), whole(made, size, 0.4), within=1e-12)


@every_loss
def test_pieces_equal_the_batch_in_one_piece(loss):
    made = partial(a_module, loss)
    assert_same(in_pieces(made, 4, 0.0), whole(made, N, 0.0), within=1e-12)


@every_loss
def test_adding_up_the_losses_of_pieces_would_be_found(loss):
    made = partial(a_module, loss)
    with pytest.raises(AssertionError):
        assert_same(accumulated(made, 4, 0.0), whole(made, 4, 0.0), within=1e-12)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", SIZES)
def test_pieces_equal_the_whole_batch_for_what_is_beside_pairs_too(name, size):
    made = partial(of_a_kind, name)
    assert_same(in_pieces(made, size, 0.4), whole(made, size, 0.4), within=1e-12)
    assert_same(in_pieces(made, size, 0.0), whole(made, N, 0.0), within=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_adding_up_would_be_found_where_pictures_have_to_do_with_each_other(name):
    made = partial(of_a_kind, name)
    if name in OF_EACH_PICTURE:
        assert_same(accumulated(made, 8, 0.0), whole(made, 8, 0.0), within=1e-12)
    else:
        with pytest.raises(AssertionError):
            assert_same(accumulated(made, 8, 0.0), whole(made, 8, 0.0), within=1e-12)


def test_no_loss_is_left_out():
    def kinds(loss):
        parts = loss.modules() if isinstance(loss, nn.Module) else [loss]
        return {type(part).__name__ for part in parts}

    tried = set().union(*(kinds(a_module(loss)) for loss in PAIR_LOSSES))
    tried |= set().union(*(kinds(of_a_kind(name)) for name in LOSSES))
    exported = {
        name
        for name in losses.__all__
        if inspect.isclass(each := getattr(losses, name))
        and issubclass(each, nn.Module)
        and not inspect.isabstract(each)
        and name != "Summand"  # what all of them are
    }
    assert len(exported) > 40
    assert exported <= tried


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
    passes = Passes(net, ContrastiveLoss(), torch.device("cpu"), seed=0, micro_batch=5)
    passes.backward(Batch(*a_batch()), Place("forward", 0), scale=lambda loss: loss)
    assert seen == [5, 5, 2] * 2


def test_dropout_draws_for_a_piece_the_same_both_times_and_for_each_its_own():
    dropped, net = [], a_net(0.4)
    net[2].register_forward_hook(lambda layer, given, out: dropped.append(out.detach() == 0))
    passes = Passes(net, ContrastiveLoss(), torch.device("cpu"), seed=7, micro_batch=4)
    for step in range(2):
        passes.backward(Batch(*a_batch()), Place("forward", step), scale=lambda loss: loss)
    for step in (dropped[:6], dropped[6:]):
        assert all(map(torch.equal, step[:3], step[3:]))
    assert dropped[0].double().mean() == pytest.approx(0.4, abs=0.1)
    different = [*dropped[:3], *dropped[6:9]]
    assert len({tuple(mask.flatten().tolist()) for mask in different}) == 6


def remembered_by_hand(ranks, size, steps):
    """Training whose every piece, on every rank, is remembered until the gradient comes back."""
    criterion, (images, labels) = ContrastiveLoss(), a_batch()
    net = channels_last(a_net(0.4))  # dropout draws in the order of memory
    optimizer = SGD(net.parameters(), lr=0.5)
    for step in range(steps):
        embeddings = []
        for rank in range(ranks):
            share = images[N * rank // ranks : N * (rank + 1) // ranks]
            for piece, some in enumerate(share.split(size)):
                domain, *where = Place("forward", step).piece(rank=rank, piece=piece)
                seed_torch(torch.device("cpu"), domain, 5, *where)
                embeddings.append(net(some))
        optimizer.zero_grad()
        criterion(torch.cat(embeddings), labels).backward()
        optimizer.step()
    return net.eval().state_dict()


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_dropout_in_pieces_teaches_what_the_remembered_pieces_teach(tmp_path, doubles, ranks):
    def work(rank):
        net = a_net(0.4)
        optimizer = SGD(net.parameters(), lr=0.5)
        options = {"micro_batch": 3, "seed": 5, "device": "cpu", "callbacks": ()}
        trainer = Trainer(net, ContrastiveLoss(), optimizer, **options)
        return trainer.fit([a_batch()], epochs=3).net.state_dict()

    expected = remembered_by_hand(ranks, 3, steps=3)
    for found in [work(0)] if ranks == 1 else on_ranks(ranks, tmp_path, work):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


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
