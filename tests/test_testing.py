"""Proofs for losses of one's own: a healthy loss passes, and each sick one breaks its law."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import siamlearn as sl
from known import LOSSES
from known.trials import a_module
from siamlearn.functional.pairs import Terms
from siamlearn.nn.ranks import Ranks, share_of_gradient
from siamlearn.ranks import alone, gathered, total
from siamlearn.testing import (
    LAWS,
    LawBroken,
    RankError,
    check_distributed,
    check_loss,
    laws,
    on_ranks,
)
from siamlearn.testing.trials import Outcome, a_batch, difference

MEANT = {  # weights that are held constant, as in the paper
    "ranked_list": laws.gradient_of_small_steps,
    "circle": laws.gradient_of_small_steps,
}


def wide(embeddings):
    return embeddings if embeddings.dtype == torch.float64 else embeddings.float()


def squares(embeddings):
    return (embeddings[:, None] - embeddings).square().sum(dim=2)


def pull(embeddings, labels):
    """A healthy loss: the mean squared distance of pictures of one identity."""
    same = labels[:, None] == labels
    return torch.where(same, squares(wide(embeddings)), 0).sum() / same.sum().clamp(min=1)


class Wrong(torch.autograd.Function):
    """A square whose gradient forgets the two."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, gradient):
        return ctx.saved_tensors[0] * gradient


def root_at_zero(x, y):
    return squares(wide(x)).sqrt().mean()


def mean_of_no_negatives(x, y):
    return squares(wide(x))[y[:, None] != y].mean()


def nothing_without_negatives(x, y):
    return pull(x, y) if (y != y[0]).any() else torch.zeros(())


def infinite_over_infinite(x, y):
    grown = wide(x).norm(dim=1).exp()
    return (grown / (1 + grown)).mean()


def wrong_backward(x, y):
    return Wrong.apply(wide(x)).sum()


def half_detached(x, y):
    return (wide(x) * wide(x).detach()).sum()


def first_counts_most(x, y):
    return (wide(x).square().sum(dim=1) / torch.arange(1, len(x) + 1)).sum()


def labels_are_numbers(x, y):
    return (wide(x).square().sum(dim=1) * y).sum()


def labels_are_rounded(x, y):
    return pull(x, y.float())


class MeanOfBlocks(sl.PairLoss):
    """Each block gives its mean, so that a smaller block counts as much as a large one."""

    def terms(self, pairs):
        pulled = torch.where(pairs.positive, pairs.distance, 0).sum()
        return Terms(pulled / pairs.positive.sum().clamp(min=1), torch.tensor(1))


def stays_in_half(x, y):
    return squares(x).mean()


def turns_at_the_end(x, y):
    mean = squares(x).mean()
    return mean if x.dtype == torch.float64 else mean.float()


def matrices(x, y):
    return (wide(x) @ wide(x).T).mean()


def waits(x, y):
    return pull(x, y) * (1 if pull(x, y).item() > 0 else 2)


SICK = [
    (root_at_zero, "hard batches", "entries"),
    (mean_of_no_negatives, "hard batches", "the loss of one picture is nan"),
    (nothing_without_negatives, "hard batches", "one picture raises RuntimeError"),
    (infinite_over_infinite, "extreme scales", "the loss of embeddings 1000 times as long is nan"),
    (wrong_backward, "gradient of small steps", "instead of"),
    (half_detached, "gradient of small steps", "instead of"),
    (first_counts_most, "order of the batch", "in another order"),
    (labels_are_numbers, "names of identities", "with identities named"),
    (labels_are_rounded, "names of identities", "[9007199254740992, 9007199254740993"),
    (MeanOfBlocks(), "rows of pairs", "of 12 rows at once"),
    (stays_in_half, "half precision", "torch.float16, not torch.float32"),
    (turns_at_the_end, "half precision", "instead of"),
    (matrices, "autocast", "under autocast"),
    (waits, "compilation", "stops with"),
]


def test_a_loss_in_one_line():
    found = check_loss(pull)

    assert found.held == tuple(
        law.__name__.replace("_", " ") for law in LAWS if law is not laws.rows_of_pairs
    )
    assert dict(found.silent) == {"rows of pairs": "only a PairLoss holds its pairs in rows"}
    assert str(found).splitlines()[-1] == "rows of pairs: only a PairLoss holds its pairs in rows"


class Scaled(nn.Module):
    """A healthy loss that learns."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x, y):
        return pull(x, y) * self.scale


def test_a_module_is_tried_with_what_it_learns():
    found = check_loss(Scaled(), laws=[laws.compilation, laws.gradient_of_small_steps])

    assert found.held == ("compilation", "gradient of small steps")


@pytest.mark.parametrize(
    ("loss", "law", "numbers"), SICK, ids=lambda it: getattr(it, "__name__", None)
)
def test_a_sick_loss_breaks_its_law_and_is_told_how(loss, law, numbers):
    assert len({law for _, law, _ in SICK}) == len(LAWS)
    with pytest.raises(LawBroken) as caught:
        check_loss(loss, compile=loss is waits)

    assert caught.value.law == law
    assert numbers in caught.value.found
    assert str(caught.value) == f"{law}: {caught.value.found}; {caught.value.meaning}"


def test_the_numbers_of_a_wrong_gradient_are_those_by_hand():
    embeddings, labels = torch.tensor([[3.0, 4.0]]), torch.tensor([0])

    with pytest.raises(LawBroken) as caught:
        check_loss(
            wrong_backward,
            embeddings=embeddings,
            labels=labels,
            laws=[laws.gradient_of_small_steps],
        )

    assert caught.value.found == "the gradient at embedding 0, dimension 1 is 4 instead of 8"


def test_differences_are_told_for_what_is_learned_and_for_what_is_no_number():
    one = Outcome(torch.tensor(1.0), torch.ones(2, 2), {"weight": torch.ones(2, 3)})
    bent = one.learned["weight"].clone()
    bent[1, 2] = torch.nan

    assert not difference(one, one, within=0)
    told = difference(one._replace(learned={"weight": bent}), one, within=1e-3)
    assert told == "the gradient at weight[1, 2] is nan instead of 1"
    assert difference(one._replace(value=torch.tensor(torch.inf)), one, within=1) == (
        "the loss is inf instead of 1"
    )


@settings(max_examples=3)
@given(n=st.integers(6, 12), identities=st.integers(1, 4), seed=st.integers(0, 99))
def test_a_healthy_loss_passes_on_any_batch(n, identities, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(identities, (n,), generator=generator)
    embeddings = torch.randn(n, 3, generator=generator)

    check_loss(pull, embeddings=embeddings, labels=labels, compile=False)
    with pytest.raises(LawBroken):
        check_loss(first_counts_most, embeddings=embeddings, labels=labels, compile=False)


def passes(loss):
    left_out = MEANT.get(loss.name)
    return check_loss(a_module(loss, torch.float32), laws=[*set(LAWS) - {left_out}], compile=False)


@pytest.mark.parametrize("loss", LOSSES[:60:12], ids=lambda loss: loss.name)
def test_losses_of_ours_pass(loss):
    assert "rows of pairs" in passes(loss).held


@pytest.mark.soak
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_all_losses_of_ours_pass_on_one_rank_and_on_several(loss):
    assert "rows of pairs" in passes(loss).held
    assert len(check_distributed(a_module(loss)).held) == 4


def test_a_weight_that_is_held_constant_is_seen():
    with pytest.raises(LawBroken, match="gradient of small steps"):
        check_loss(sl.CircleLoss(), laws=[laws.gradient_of_small_steps])


def test_what_says_nothing_of_a_loss_is_told_with_the_reason():
    pairs = check_loss(sl.ContrastiveLoss(pairing=sl.adjacent_pairs), compile=False)
    classes = check_loss(sl.NormalisedSoftmaxLoss(4, 8), compile=False)

    assert pairs.silent["order of the batch"] == "its pairing goes by places in the batch"
    assert pairs.silent["hard batches"].startswith("refused are one picture (ValueError: adjacent")
    assert classes.silent["names of identities"] == "labels are places in what it learns or keeps"
    assert classes.silent["compilation"] == "left out"


def test_several_identities_a_picture_are_tried_too():
    embeddings, labels = a_batch()
    several = nn.functional.one_hot(labels, 5).bool()

    found = check_loss(sl.SupConLoss(), embeddings=embeddings, labels=several, compile=False)

    assert found.silent["names of identities"] == "the labels are of several identities a picture"
    assert "order of the batch" in found.held


def test_a_proof_leaves_everything_as_it_was():
    loss = sl.InfoNCELoss(references=sl.Memory(20)) + 0.5 * sl.CentreLoss(4, 8)
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    numbers = torch.get_rng_state()

    check_loss(
        loss, laws=[law for law in LAWS if law is not laws.gradient_of_small_steps], compile=False
    )
    check_distributed(loss, ranks=[2])

    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())
    assert all(parameter.grad is None for parameter in loss.parameters())
    assert torch.equal(torch.get_rng_state(), numbers)


@pytest.mark.parametrize(
    ("loss", "batch", "message"),
    [
        (pull, {"labels": torch.arange(3)}, "give both embeddings and labels"),
        (lambda x, y: x.sum(dim=1), {}, r"a loss must give one number, .* got shape \(12,\)"),
        (lambda x, y: 3.0, {}, "a loss must give one number, .* got 3.0"),
        (sl.ArcFaceLoss(4, 16), {}, "must take a batch of 12 embeddings of 8 dimensions"),
    ],
)
def test_what_cannot_be_tried_is_refused(loss, batch, message):
    with pytest.raises(ValueError, match=message):
        check_loss(loss, **batch)


# Several ranks.


def test_a_loss_that_knows_nothing_of_ranks_is_one_loss_on_all():
    found = check_distributed(lambda x, y: pull(x, y))

    assert found.held == (
        "2 ranks with 8 and 4 pictures",
        "2 ranks with 12 and 0 pictures",
        "3 ranks with 6, 4 and 2 pictures",
        "3 ranks with 8, 4 and 0 pictures",
    )


@pytest.mark.parametrize(
    "loss",
    [
        sl.SupConLoss(),
        sl.TripletLoss(pairing=sl.adjacent_triplets),
        sl.InfoNCELoss(pairing=sl.two_towers),
        sl.InfoNCELoss(references=sl.Memory(20, warm_up=1)),
        sl.CurricularFaceLoss(4, 8, momentum=0.5),
        sl.ContrastiveLoss() + 0.5 * sl.CentreLoss(4, 8),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_losses_of_ours_are_one_loss_on_all_ranks(loss):
    assert len(check_distributed(loss, ranks=[3]).held) == 2


def gathers_rightly(x, y):
    everyone, names, _ = Ranks()(x, y)
    return share_of_gradient(pull(everyone, names))


def forgets_the_others(x, y):
    # Its rows beside those of all, which are gathered without gradient, as is often done.
    everyone, names = (x if alone() else gathered(x.detach())), gathered(y)
    same = y[:, None] == names
    squares = (x[:, None] - everyone).square().sum(dim=2)
    mine = torch.where(same, squares, 0).sum() / total(same.sum())
    return mine + (total(mine) - mine).detach()


def test_a_loss_that_gathers_by_itself_is_tried_as_it_is():
    assert len(check_distributed(gathers_rightly, ranks=[2], gathers=True).held) == 2


class OfItsShare(sl.PairLoss):
    """A loss of pairs that does not ask the others."""

    def terms(self, pairs):
        raise NotImplementedError

    def forward(self, embeddings, labels):
        return pull(embeddings, labels)


class Weighted(nn.Module):
    """What it learns has its whole gradient on every rank."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, x, y):
        everyone, names, _ = Ranks()(x, y)
        return share_of_gradient(pull(everyone, names)) * self.weight


@pytest.mark.parametrize(
    ("loss", "gathers", "numbers", "meaning"),
    [
        (forgets_the_others, True, "is 0.5 of what it should be", "the way down is not"),
        (pull, True, "on rank 0 at step 1", "not that of its share"),
        (OfItsShare(), False, "on rank 0 at step 1", "not that of its share"),
        (gathers_rightly, False, "is 0.5 of what it should be", "is tried with gathers=True"),
        (lambda x, y: pull(x, y) * dist.get_world_size(), False, "the loss is", "whole batch"),
        (Weighted(), True, "gradient at weight is 2 of what", "each answers for a share"),
    ],
)
def test_a_loss_that_is_sick_on_ranks_is_told_how(loss, gathers, numbers, meaning):
    with pytest.raises(LawBroken, match=r"^2 ranks with 8 and 4 pictures: ") as caught:
        check_distributed(loss, gathers=gathers)

    assert numbers in caught.value.found
    assert meaning in caught.value.meaning


def first_alone(x, y):
    return pull(x, y) if dist.get_rank() == 0 else gathers_rightly(x, y)


def last_refuses(x, y):
    if dist.get_rank() == 1:
        msg = "too few"
        raise ValueError(msg)
    return gathers_rightly(x, y)


def last_is_killed(x, y):
    if dist.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def children():
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (first_alone, "rank . failed: .*(closed|reset)"),
        (last_refuses, "rank 1 failed: ValueError: too few"),
        (last_is_killed, "rank 1 failed: it was ended by SIGKILL"),
    ],
)
def test_a_rank_that_fails_or_waits_ends_all_and_says_why(loss, message):
    before, start = children(), time.monotonic()

    with pytest.raises(LawBroken, match=message):
        check_distributed(
            lambda x, y: loss(x, y) if len(y) < 12 else pull(x, y), gathers=True, patience=20
        )

    assert children() == before
    assert time.monotonic() - start < 20


def test_ranks_that_wait_are_ended_in_time():
    before = children()

    with pytest.raises(
        RankError, match=r"rank 0 failed: it is not done after 0\.2 seconds; most often"
    ):
        on_ranks(2, lambda rank: time.sleep(60), patience=0.2)

    assert children() == before


def test_work_on_ranks_comes_back_in_their_order():
    def work(rank):
        dist.barrier()
        return bytes([rank, dist.get_world_size(), torch.get_num_threads()])

    assert on_ranks(3, work) == [bytes([0, 3, 1]), bytes([1, 3, 1]), bytes([2, 3, 1])]


def test_ctrl_c_ends_all_ranks(monkeypatch):
    before = children()

    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        on_ranks(2, lambda rank: signal.pause())

    assert children() == before


def test_what_has_no_forks_is_told_so(monkeypatch):
    monkeypatch.delattr(os, "fork")

    with pytest.raises(RuntimeError, match="which this system does not have; try them on Linux"):
        check_distributed(pull)


def test_a_process_that_is_a_rank_itself_starts_none():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        with pytest.raises(RuntimeError, match="run it without torchrun"):
            check_distributed(pull)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("ranks", [[], [1], [2, 0]])
def test_less_than_two_ranks_prove_nothing(ranks):
    with pytest.raises(ValueError, match="ranks must be numbers of processes of at least 2"):
        check_distributed(pull, ranks=ranks)


def test_a_script_without_a_guard_and_with_threads_proves_a_loss_of_ours():
    # Threads, and a backward pass, before the forks.
    program = """
import threading, time
import torch
import siamlearn as sl
torch.set_num_threads(4)
x = torch.randn(400, 400, requires_grad=True)
(x @ x).softmax(dim=1).square().sum().backward()
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
class Own(sl.PairLoss):
    def terms(self, pairs):
        return sl.SupConLoss().terms(pairs)
print(sl.testing.check_distributed(Own(sl.cosine), patience=30))
print(sl.testing.check_loss(Own(sl.cosine), compile=False))
"""
    run = [sys.executable, "-c", program]
    done = subprocess.run(run, capture_output=True, text=True, timeout=100)

    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": holds\n") == 4 + len(LAWS) - 1
