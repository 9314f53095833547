"""Losses against proxies by hand, and beside pytorch-metric-learning with the same vectors."""

import math

import pytest
import torch
from pytorch_metric_learning import losses as peers
from pytorch_metric_learning.regularizers import SparseCentersRegularizer

from siamlearn.functional import losses
from siamlearn.functional.pairs import Pairs
from siamlearn.nn.losses import ProxyAnchorLoss, ProxyNCALoss, SoftTripleLoss
from siamlearn.nn.references import Proxies


def a_row(positive: list[float], negative: list[float], left_out: list[float] = ()) -> Pairs:
    """One row of positives, negatives, and pairs that a miner left out."""
    distance = torch.tensor([[*positive, *negative, *left_out]])
    column = torch.arange(distance.shape[1])[None]
    same = column < len(positive)
    return Pairs(distance, same, ~same & (column < len(positive) + len(negative)))


def a_batch(n: int = 9, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    return embeddings.requires_grad_(), torch.randint(classes, (n,), generator=generator)


def test_proxy_nca_by_hand():
    # Squared distances of unit vectors are twice 1 - cosine: 0.5 and 1, at temperature 0.5.
    terms = losses.proxy_nca(a_row([0.25], [0.5], left_out=[0.0]), temperature=0.5)

    assert terms.mean().item() == pytest.approx(math.log1p(math.exp(-1)))


def test_proxy_anchor_by_hand():
    # A proxy with one picture at similarity 0.5 and another person's at 0; one with nobody's own.
    pairs = Pairs(
        torch.tensor([[0.5, 1.0], [1.0, 1.5]]),
        torch.tensor([[True, False], [False, False]]),
        torch.tensor([[False, True], [True, True]]),
    )
    terms = losses.proxy_anchor(pairs, margin=0.5, scale=2.0)

    pull = math.log1p(math.exp(-2 * (0.5 - 0.5)))
    push = math.log1p(math.exp(2 * 0.5)), math.log1p(math.exp(1) + math.exp(0))
    assert terms.total.tolist() == pytest.approx([pull, sum(push)])
    assert terms.count.tolist() == [1, 2]  # only the first has pictures of its own to be pulled


def test_soft_triple_by_hand():
    # Two centres each: own class at 0.25 (see the centres), the other at 0.5.
    log3 = math.log(3)
    pairs = Pairs(
        torch.tensor([[0.0, 1.0, 0.5, 0.5]]),
        torch.tensor([[True, True, False, False]]),
        torch.tensor([[False, False, True, True]]),
    )
    terms = losses.soft_triple(pairs, centres=2, margin=0.05, scale=10.0, softness=1 / log3)

    assert terms.count == 1
    assert terms.total.item() == pytest.approx(math.log1p(math.exp(-10 * (0.5 - 0.25 - 0.05))))


def test_proxy_anchor_looks_at_the_hardest_pictures_most():
    pairs = a_row([0.1, 1.9], [0.1, 1.9])
    slope = torch.stack(losses.proxy_anchor(pairs).slopes)

    assert (slope[0, 0, 1] > 30, slope[0, 0, 0] < 1e-20) == (True, True)
    assert (slope[1, 0, 2] < -30, slope[1, 0, 3] > -1e-20) == (True, True)


PEERS = [
    (
        ProxyAnchorLoss(0.2, scale=8.0, references=Proxies(5, 4)),
        peers.ProxyAnchorLoss(5, 4, margin=0.2, alpha=8),
    ),
    (
        ProxyNCALoss(1 / 9, references=Proxies(5, 4)),
        peers.ProxyNCALoss(5, 4, softmax_scale=9),
    ),
    (
        SoftTripleLoss(references=Proxies(5, 4, centres=3)),
        peers.SoftTripleLoss(
            5,
            4,
            centers_per_class=3,
            weight_regularizer=SparseCentersRegularizer(5, 3),
            weight_reg_weight=0.2,
        ),
    ),
]


@pytest.mark.parametrize("rows", [None, 2, 100])
@pytest.mark.parametrize(("ours", "peer"), PEERS, ids=lambda loss: type(loss).__name__)
def test_equals_pytorch_metric_learning_with_the_same_proxies(ours, peer, rows):
    ours.double().rows = rows
    embeddings, labels = a_batch()
    vectors = ours.references.vectors
    across = hasattr(peer, "fc")
    theirs = torch.nn.Parameter(vectors.detach().mT.clone() if across else vectors.detach().clone())
    setattr(peer, "fc" if across else "proxies", theirs)

    cost, expected = ours(embeddings, labels), peer(embeddings, labels)
    mine = torch.autograd.grad(cost, [embeddings, vectors])
    given = torch.autograd.grad(expected, [embeddings, theirs])

    # Their centres keep a little apart: a small number under the root.
    within = {"rtol": 1e-6, "atol": 1e-6}
    torch.testing.assert_close(cost, expected, **within)
    torch.testing.assert_close(mine, (given[0], given[1].mT if across else given[1]), **within)


def test_far_proxies_still_pull_where_pytorch_metric_learning_drops_the_picture():
    # The first picture is opposite to its proxy and beside the other one: 400 nats, the
    # exponential of which is 0 in single precision. The second one is where it should be.
    embeddings = torch.tensor([[1.0, 0.01], [1.0, 0.01]], requires_grad=True)
    vectors = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    ours = ProxyNCALoss(0.01, references=Proxies(2, 2))
    peer = peers.ProxyNCALoss(2, 2, softmax_scale=100)
    ours.references.vectors.data, peer.proxies.data = vectors, vectors.clone()
    costs = [loss(embeddings, torch.tensor([0, 1])) for loss in (ours, peer)]
    pulls = [torch.autograd.grad(cost, embeddings)[0][0].norm() for cost in costs]

    assert [cost.item() for cost in costs] == pytest.approx([200, 0], rel=1e-3)
    assert pulls[0] > 1
    assert pulls[1] == 0
    assert peer(embeddings[:1], torch.tensor([0])).isnan()  # where no picture is left


def test_pictures_of_nobody_are_refused_where_pytorch_metric_learning_leaves_them_out():
    embeddings, _ = a_batch(2)
    peer = peers.ProxyNCALoss(5, 4)

    assert peer(embeddings, torch.tensor([1, 9])) == peer(embeddings[:1], torch.tensor([1]))
    with pytest.raises(ValueError, match="labels must be from 0 to 4"):
        ProxyNCALoss(references=Proxies(5, 4))(embeddings, torch.tensor([1, 9]))


@pytest.mark.parametrize("loss", [ProxyNCALoss, ProxyAnchorLoss, SoftTripleLoss])
def test_a_batch_in_half_precision_leaves_the_proxies_as_precise_as_they_were(loss):
    embeddings, labels = a_batch()
    peer = peers.ProxyAnchorLoss(5, 4)
    peer(embeddings.bfloat16(), labels)
    ours = loss(references=Proxies(5, 4, centres=2 if loss is SoftTripleLoss else 1))
    ours(embeddings.bfloat16(), labels).backward()

    assert peer.proxies.dtype == torch.bfloat16  # for good, and what was more precise is lost
    assert ours.references.vectors.dtype == ours.references.vectors.grad.dtype == torch.float32
    # Nor does a batch in double precision change them.
    assert ours(embeddings, labels).dtype == torch.float64
    assert ours.references.vectors.dtype == torch.float32
