"""What the modules of triplets and lists take and refuse; what they compute is in ``laws.py``."""

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.reducers import MeanReducer

from siamlearn.functional.mining import hardest
from siamlearn.functional.pairings import adjacent_pairs
from siamlearn.nn.losses import (
    BatchHardLoss,
    RankedListLoss,
    SemiHardTripletLoss,
    SoftTripletLoss,
    TripletLoss,
)

every_loss = pytest.mark.parametrize(
    "loss", [TripletLoss, SemiHardTripletLoss, SoftTripletLoss, BatchHardLoss, RankedListLoss]
)
PLAIN = LpDistance(normalize_embeddings=False)


def a_batch(n: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    embeddings = torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    return embeddings.double().requires_grad_(), torch.arange(n) % 4


@every_loss
def test_a_siamese_batch_has_no_triplets(loss):
    with pytest.raises(ValueError, match="would always be 0; use all_pairs"):
        loss(pairing=adjacent_pairs)


@pytest.mark.parametrize("loss", [TripletLoss, SemiHardTripletLoss, BatchHardLoss, RankedListLoss])
@pytest.mark.parametrize("margin", [0, -1.0, float("nan"), float("inf")])
def test_margin_must_be_above_zero(loss, margin):
    with pytest.raises(ValueError, match=f"margin must be above zero and finite, got {margin}"):
        loss(margin)


@pytest.mark.parametrize("margin", [float("nan"), float("inf")])
def test_a_soft_margin_must_be_finite(margin):
    with pytest.raises(ValueError, match=f"margin must be finite, got {margin}"):
        SoftTripletLoss(margin)
    with pytest.raises(ValueError, match=f"margin must be finite, got {margin}"):
        BatchHardLoss(margin, penalty=F.softplus)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"boundary": 0.4}, r"boundary must be above the margin of 0.4 and finite, got 0.4"),
        ({"boundary": float("inf")}, "boundary must be above the margin.*got inf"),
        ({"scale": -1.0}, "scale must be at least zero and finite, got -1.0"),
        ({"scale": float("nan")}, "scale must be at least zero and finite, got nan"),
        ({"balance": 0.0}, "balance must be above zero and finite, got 0.0"),
    ],
)
def test_a_ranked_list_needs_room_for_its_positives(settings, rule):
    with pytest.raises(ValueError, match=rule):
        RankedListLoss(**settings)


def test_batch_hard_with_a_soft_margin_is_that_of_pytorch_metric_learning():
    embeddings, labels = a_batch()
    peer = TripletMarginLoss(margin=0, smooth_loss=True, distance=PLAIN, reducer=MeanReducer())
    theirs = peer(embeddings, labels, BatchHardMiner(distance=PLAIN)(embeddings, labels))
    ours = BatchHardLoss(0, penalty=F.softplus)(embeddings, labels)

    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours, embeddings), torch.autograd.grad(theirs, embeddings)
    )


def test_triplets_of_the_hardest_pairs_are_the_hardest_triplets():
    embeddings, labels = a_batch()
    mined = TripletLoss(9.0, miner=hardest)(embeddings, labels)  # a margin that leaves no zeros

    torch.testing.assert_close(mined, BatchHardLoss(9.0)(embeddings, labels))


def test_many_positives_are_sorted_and_few_are_not():
    # Three pictures of each of twenty identities, then eighty of each of two:
    # both ways, the loss of triplets is what the peer says.
    generator = torch.Generator().manual_seed(0)
    for n, identities in ((60, 20), (160, 2)):
        embeddings = torch.randn(n, 3, generator=generator).double().requires_grad_()
        labels = torch.arange(n) % identities
        theirs = TripletMarginLoss(margin=0.3, distance=PLAIN)(embeddings, labels)
        ours = TripletLoss(0.3, rows=50)(embeddings, labels)

        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(
            torch.autograd.grad(ours, embeddings), torch.autograd.grad(theirs, embeddings)
        )
