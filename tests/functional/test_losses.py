"""Values by hand, and traps of one loss; what all losses share is in ``laws.py``."""

import math

import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss

from siamlearn.functional import losses
from siamlearn.functional.distances import cosine, squared_euclidean
from siamlearn.functional.pairings import all_pairs
from siamlearn.functional.pairs import Pairs


def a_row(positive: list[float], negative: list[float], left_out: list[float] = ()) -> Pairs:
    """One anchor beside its positives, its negatives, and pairs that a miner left out."""
    distance = torch.tensor([[*positive, *negative, *left_out]])
    column = torch.arange(distance.shape[1])[None]
    same = column < len(positive)
    return Pairs(distance, same, ~same & (column < len(positive) + len(negative)))


def test_contrastive_by_hand():
    # Margin 2: a positive at 0.5 costs 0.25; a negative at 0.5 costs 1.5 squared, at 3 nothing.
    pairs = a_row([0.5], [0.5, 3.0], left_out=[9.0])

    assert losses.contrastive(pairs, margin=2.0).mean().item() == pytest.approx((0.25 + 2.25) / 3)


def test_triplet_by_hand():
    # Margin 1: positive 2 against negatives 2.5 and 9, positive 4 against the same.
    pairs = a_row([2.0, 4.0], [2.5, 9.0], left_out=[0.0])
    terms = losses.triplet(pairs, margin=1.0)

    assert terms.total.item() == (2 - 2.5 + 1) + (4 - 2.5 + 1)
    assert terms.count.item() == 2


def test_a_triplet_on_the_edge_of_the_margin_costs_and_counts_nothing():
    terms = losses.triplet(a_row([1.0], [1.5]), margin=0.5)

    assert (terms.total.item(), terms.count.item()) == (0, 0)


def test_triplets_may_be_counted_by_the_hundred_million():
    # 20,000 positives and 10,000 negatives of one anchor, all as far: more than int32 or float32
    # can count would be reached with a dozen such anchors; the mean must still be the margin.
    same = (torch.arange(30_000) < 20_000).expand(12, -1)
    terms = losses.triplet(Pairs(torch.ones(12, 30_000), same, ~same), margin=0.25)

    assert terms.count.item() == 12 * 20_000 * 10_000
    assert terms.mean().item() == pytest.approx(0.25, rel=1e-4)


def test_info_nce_by_hand():
    # Positives one by one: the one at 0 against the negative at 1, then the one at 1 against it.
    terms = losses.info_nce(a_row([0.0, 1.0], [1.0], left_out=[0.0]), temperature=0.5)

    assert terms.count.item() == 2
    assert terms.total.item() == pytest.approx(math.log1p(math.exp(-2)) + math.log(2))


def test_sup_con_by_hand():
    # Both positives stand in the denominator of each, and the anchor counts once.
    terms = losses.sup_con(a_row([0.0, 1.0], [1.0], left_out=[0.0]), temperature=0.5)

    assert terms.count.item() == 1
    assert terms.total.item() == pytest.approx(math.log(1 + 2 * math.exp(-2)) + (0 + 2) / 2)


def test_sup_con_is_info_nce_where_each_anchor_has_one_positive():
    pairs = a_row([0.3], [0.1, 0.9, 0.4])

    torch.testing.assert_close(losses.sup_con(pairs).mean(), losses.info_nce(pairs).mean())


@pytest.mark.parametrize("loss", [losses.info_nce, losses.sup_con])
def test_softmax_losses_keep_pulling_where_pytorch_metric_learning_gives_up(loss):
    # Two positives at a right angle, each with a rival beside it: at temperature 0.01 that costs
    # 100 nats. There, the logarithm of a quotient is cut off at that of the smallest float, about
    # 87, and has hardly a gradient.
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1e-2], [1e-2, 1.0]])
    embeddings.requires_grad_()
    labels = torch.tensor([0, 0, 1, 2])
    peer = NTXentLoss(temperature=0.01)(embeddings, labels)
    ours = all_pairs(
        lambda pairs: loss(pairs, temperature=0.01), embeddings, labels, distance=cosine
    ).mean()

    assert peer.item() < 90
    assert ours.item() == pytest.approx(100, rel=1e-3)
    assert torch.autograd.grad(ours, embeddings)[0].norm() > 10
    assert torch.autograd.grad(peer, embeddings)[0].norm() < 1e-3


def test_sup_con_still_asks_for_one_place_where_there_are_no_negatives():
    # Equation 2 does not need negatives; pytorch-metric-learning returns 0 there.
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    labels = torch.zeros(3, dtype=torch.int64)
    cost = all_pairs(losses.sup_con, embeddings, labels, distance=cosine).mean()

    assert cost > math.log(2)


@pytest.mark.parametrize("loss", [losses.contrastive, losses.triplet])
def test_hinges_are_flat_where_everything_is_as_wanted(loss):
    embeddings = torch.tensor([[0.0], [0.0], [50.0], [50.0]], requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1])
    cost = all_pairs(loss, embeddings, labels, distance=squared_euclidean).mean()
    cost.backward()

    assert cost == 0
    assert embeddings.grad.eq(0).all()
