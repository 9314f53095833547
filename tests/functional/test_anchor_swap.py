"""Anchor swap: triplets whose negative is measured from the nearer of the other two."""

import pytest
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss

from siamlearn.functional.distances import euclidean
from siamlearn.functional.pairings import References, adjacent_triplets, anchor_swap
from siamlearn.functional.pairs import Pairs, Terms
from siamlearn.nn.losses import SoftTripletLoss, TripletLoss


def a_batch(q: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    embeddings = torch.randn(3 * q, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.cat([torch.arange(q), torch.arange(q), torch.arange(q) + q])
    return embeddings.double().requires_grad_(), labels


def test_a_swapped_triplet_by_hand():
    # Anchor 0, positive 2, negative 3: 2 - 3 + 1.5 from the anchor, 2 - 1 + 1.5 from the positive.
    embeddings, labels = torch.tensor([[0.0], [2.0], [3.0]]), torch.tensor([5, 5, 6])

    assert TripletLoss(1.5, pairing=adjacent_triplets)(embeddings, labels) == 0.5
    assert TripletLoss(1.5, pairing=anchor_swap)(embeddings, labels) == 2.5


def test_a_negative_nearer_to_the_anchor_stays():
    embeddings, labels = torch.tensor([[0.0], [2.0], [-1.0]]), torch.tensor([5, 5, 6])

    assert TripletLoss(1.5, pairing=anchor_swap)(embeddings, labels) == 2.5


def test_what_is_no_triplet_is_not_swapped():
    # The second is a stranger to both, the third to the first alone.
    embeddings, labels = torch.tensor([[0.0], [2.0], [3.0]]), torch.tensor([5, 6, 6])

    def farthest(pairs: Pairs) -> Terms:
        return Terms(pairs.distance[:, 1].sum(), torch.tensor(1))

    assert anchor_swap(farthest, embeddings, labels, distance=euclidean).total == 3


def test_swapped_triplets_cost_what_pytorch_metric_learning_says():
    embeddings, labels = a_batch()
    peer = TripletMarginLoss(margin=0.5, swap=True, distance=LpDistance(normalize_embeddings=False))
    theirs = peer(embeddings, labels, torch.arange(24).chunk(3))
    ours = TripletLoss(0.5, pairing=anchor_swap)(embeddings, labels)
    plain = TripletLoss(0.5, pairing=adjacent_triplets)(embeddings, labels)

    assert ours > plain
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours, embeddings), torch.autograd.grad(theirs, embeddings)
    )


def test_the_gradient_of_a_swap_is_its_slope():
    embeddings, labels = a_batch(3)
    loss = SoftTripletLoss(pairing=anchor_swap)

    assert torch.autograd.gradcheck(lambda x: loss(x, labels), embeddings)


def test_an_empty_batch_has_nothing_to_swap():
    embeddings = torch.zeros(0, 4, requires_grad=True)
    cost = TripletLoss(pairing=anchor_swap)(embeddings, torch.zeros(0, dtype=torch.int64))

    assert cost == 0


def test_references_cannot_be_swapped():
    embeddings, labels = a_batch()

    with pytest.raises(ValueError, match="anchor_swap compares the batch with itself"):
        TripletLoss(pairing=anchor_swap)(embeddings, labels, References(embeddings, labels)[:2])
