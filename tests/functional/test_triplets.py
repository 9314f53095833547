"""Losses of triplets by hand, and their traps; what all losses share is in ``laws.py``."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import RankedListLoss
from torch import Tensor

from siamlearn.functional import losses
from siamlearn.functional.distances import euclidean
from siamlearn.functional.losses import triplets
from siamlearn.functional.pairings import all_pairs
from siamlearn.functional.pairs import Pairs, Terms

hinges = pytest.mark.parametrize("loss", [losses.triplet, losses.semi_hard_triplet])


def a_row(positive: list[float], negative: list[float], left_out: list[float] = ()) -> Pairs:
    """One anchor beside its positives, its negatives, and pairs that a miner left out."""
    distance = torch.tensor([[*positive, *negative, *left_out]])
    column = torch.arange(distance.shape[1])[None]
    same = column < len(positive)
    return Pairs(distance, same, ~same & (column < len(positive) + len(negative)))


def a_block(q: int = 9, r: int = 40, seed: int = 0) -> Pairs:
    """Positives, negatives and pairs left out at random; rows without either."""
    generator = torch.Generator().manual_seed(seed)
    kind = torch.randint(3, (q, r), generator=generator)
    kind[0], kind[1] = kind[0].clamp(min=1), kind[1].clamp(max=1)
    distance = torch.rand(q, r, generator=generator, dtype=torch.float64)
    return Pairs(distance.requires_grad_(), kind == 0, kind == 2)


def test_semi_hard_by_hand():
    # Margin 1: of the negatives 1.5, 2.5, 2.9 and 9, the middle ones are semi-hard for 2.
    terms = losses.semi_hard_triplet(
        a_row([2.0], [1.5, 2.5, 2.75, 9.0], left_out=[2.1]), margin=1.0
    )

    assert terms.total.item() == (2 - 2.5 + 1) + (2 - 2.75 + 1)
    assert terms.count.item() == 2
    assert terms.slope.tolist() == [[2, 0, -1, -1, 0, 0]]


def test_a_negative_as_far_as_the_positive_is_not_semi_hard():
    terms = losses.semi_hard_triplet(a_row([1.0], [1.0]), margin=0.5)

    assert (terms.total.item(), terms.count.item()) == (0, 0)


def test_soft_triplet_by_hand():
    terms = losses.soft_triplet(a_row([2.0, 1.0], [2.0, 3.0], left_out=[0.0]), margin=1.0)
    lacks = [2 - 2 + 1, 2 - 3 + 1, 1 - 2 + 1, 1 - 3 + 1]

    assert terms.total.item() == pytest.approx(sum(math.log1p(math.exp(lack)) for lack in lacks))
    assert terms.count.item() == 4


def test_soft_triplet_is_exact_far_from_zero():
    # e^100 is no float32, and 1 + e^-50 is 1 also in float64.
    far = losses.soft_triplet(a_row([100.0], [0.0]))
    pairs = a_row([0.0], [50.0])
    near = losses.soft_triplet(replace(pairs, distance=pairs.distance.double()))

    assert far.total.item() == 100
    assert near.total.item() == pytest.approx(math.exp(-50), rel=1e-12)


def test_batch_hard_by_hand():
    # Anchor 0: farthest positive 2, nearest negative 2.5; anchor 1 has no positive.
    distance = torch.tensor([[1.0, 2.0, 9.0, 2.5], [1.0, 2.0, 9.0, 2.5]])
    same = torch.tensor([[True, True, False, False], [False] * 4])
    pairs = Pairs(distance, same, torch.tensor([False, False, True, True]).expand(2, 4))

    terms = losses.batch_hard(pairs, margin=1.0)
    assert (terms.total.item(), terms.count.item()) == (2 - 2.5 + 1, 1)
    soft = losses.batch_hard(pairs, margin=0, penalty=F.softplus)
    assert soft.mean().item() == pytest.approx(math.log1p(math.exp(2 - 2.5)))


def test_batch_hard_counts_anchors_that_are_content():
    same = torch.tensor([[True, False], [True, False]])
    terms = losses.batch_hard(Pairs(torch.tensor([[0.0, 9.0], [1.0, 1.0]]), same, ~same), margin=1)

    assert terms.mean().item() == 0.5


def by_autograd(loss: Terms, pairs: Pairs) -> tuple[Tensor, ...]:
    return (
        loss.total,
        loss.count,
        torch.autograd.grad(loss.total, pairs.distance, retain_graph=True)[0],
    )


@hinges
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("margin", [0.05, 0.3, 5.0])
def test_sorting_gives_what_going_through_the_positives_gives(loss, seed, margin, monkeypatch):
    pairs = a_block(seed=seed)
    in_turn = loss(pairs, margin=margin)
    monkeypatch.setattr(triplets, "FEW", -1)
    sorted_ = loss(pairs, margin=margin)

    assert in_turn.total > 0
    torch.testing.assert_close(by_autograd(sorted_, pairs), by_autograd(in_turn, pairs))
    torch.testing.assert_close(sorted_.slope, in_turn.slope)
    torch.testing.assert_close(in_turn.slope, by_autograd(in_turn, pairs)[2])


@pytest.mark.parametrize("seed", range(3))
def test_uncounted_positives_of_a_soft_triplet_cost_the_same(seed, monkeypatch):
    pairs = a_block(seed=seed)
    counted = losses.soft_triplet(pairs)
    monkeypatch.setattr(triplets, "places", lambda mask: None)
    uncounted = losses.soft_triplet(pairs)

    torch.testing.assert_close(by_autograd(uncounted, pairs), by_autograd(counted, pairs))
    torch.testing.assert_close(uncounted.slope, counted.slope)
    torch.testing.assert_close(counted.slope, by_autograd(counted, pairs)[2])


@hinges
@pytest.mark.parametrize("few", [-1, 64])
@pytest.mark.parametrize("which", [0, 1])
def test_a_nan_is_not_sorted_away(loss, few, which, monkeypatch):
    monkeypatch.setattr(triplets, "FEW", few)
    distance = [[0.5], [0.6, 9.0]]
    distance[which][-1] = torch.nan

    assert loss(a_row(*distance)).total.isnan()


@hinges
@pytest.mark.parametrize("few", [-1, 64])
def test_rows_without_triplets_cost_nothing(loss, few, monkeypatch):
    monkeypatch.setattr(triplets, "FEW", few)

    for pairs in (a_row([0.1, 0.2], []), a_row([], [0.1, 0.2]), a_row([], [], [0.1])):
        terms = loss(pairs)
        assert (terms.total.item(), terms.count.item()) == (0, 0)
        assert terms.slope.eq(0).all()


def test_a_loss_of_the_hardest_alone_is_a_choice_of_pairs():
    # With one positive and one negative left a row, all triplets are the hardest ones.
    pairs = a_block()
    distance, one = pairs.distance.detach(), torch.arange(40)
    far = distance.masked_fill(~pairs.positive, -1).argmax(dim=1, keepdim=True)
    near = distance.masked_fill(~pairs.negative, 9).argmin(dim=1, keepdim=True)
    hardest = pairs.keep(positive=one == far, negative=one == near)

    of_all = losses.batch_hard(pairs, margin=5.0)
    torch.testing.assert_close(losses.triplet(hardest, margin=5.0).mean(), of_all.mean())


def test_ranked_list_by_hand():
    # Boundary 2, margin 1: positives at 1.5 and 3 are 0.5 and 2 too far; negatives at 1.75 and 1.5
    # are 0.25 and 0.5 too near, and the second weighs e times as much at scale 4.
    pairs = a_row([1.5, 3.0, 0.5], [1.75, 1.5, 2.5], left_out=[0.0])
    terms = losses.ranked_list(pairs, margin=1.0, boundary=2.0, scale=4.0, balance=2.0)

    weight = math.e / (1 + math.e)
    push = (1 - weight) * 0.25 + weight * 0.5
    assert terms.mean().item() == pytest.approx((0.5 + 2) / 2 + 2 * push)
    expected = torch.tensor([[0.5, 0.5, 0, -2 * (1 - weight), -2 * weight, 0, 0]])
    torch.testing.assert_close(terms.slope, expected)


def test_ranked_list_weighs_by_constants():
    pairs = a_block()
    terms = losses.ranked_list(pairs, margin=0.2, boundary=0.6)

    assert terms.slope.lt(0).any()
    torch.testing.assert_close(by_autograd(terms, pairs)[2], terms.slope)


def test_ranked_list_is_the_other_one_but_for_its_mistakes():
    # Without weights, where only its 0.00001 in each denominator is left, times the batch.
    embeddings = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    embeddings = embeddings.double().requires_grad_()
    labels = torch.arange(12) % 4
    peer = RankedListLoss(margin=0.4, Tn=0, alpha=1.2, imbalance=0.5)(embeddings, labels)
    terms = partial(losses.ranked_list, scale=0)
    ours = all_pairs(terms, F.normalize(embeddings), labels, distance=euclidean).mean() / 2

    assert ours.item() == pytest.approx(peer.item(), rel=1e-3)
    torch.testing.assert_close(
        torch.autograd.grad(ours, embeddings),
        torch.autograd.grad(peer, embeddings),
        rtol=1e-3,
        atol=1e-6,
    )


def test_ranked_list_pushes_a_negative_in_the_same_place():
    # There pytorch-metric-learning takes 0 for "not chosen", and says nothing at all.
    embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    labels = torch.tensor([0, 1])

    assert RankedListLoss(margin=0.4, Tn=5)(embeddings, labels) == 0
    ours = all_pairs(losses.ranked_list, embeddings, labels, distance=euclidean).mean()
    assert ours.item() == pytest.approx(1.2)
