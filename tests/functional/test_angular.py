"""The angular loss over its own rows: pairs of pictures. As a loss of rows it is in ``laws.py``."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import AngularLoss as Peer
from torch import Tensor

from known.trials import Largest
from siamlearn.functional import losses
from siamlearn.functional.losses.angles import outside_angle, pairs_beside_all
from siamlearn.functional.pairings import References
from siamlearn.functional.pairs import Pairs
from siamlearn.nn.losses import AngularLoss


def a_batch(q: int = 5, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Pairs of q identities: anchors, then their positives."""
    embeddings = torch.randn(2 * q, 3, generator=torch.Generator().manual_seed(q), dtype=dtype)
    return embeddings.requires_grad_(), torch.arange(q).repeat(2)


def loops(embeddings: Tensor, labels: Tensor, angle: float) -> Tensor:
    x, costs = embeddings / embeddings.norm(dim=1, keepdim=True), []
    t = torch.tensor(angle).deg2rad().tan().double() ** 2
    half = len(x) // 2
    for a, p in zip(range(half), range(half, 2 * half), strict=True):
        strangers = [n for n in range(len(x)) if labels[n] not in (labels[a], labels[p])]
        f = [4 * t * (x[a] + x[p]) @ x[n] - 2 * (1 + t) * x[a] @ x[p] for n in strangers]
        costs.append(torch.stack(f).exp().sum().log1p())
    return sum(costs) / half


def with_gradient(value: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
    return value, torch.autograd.grad(value, embeddings)[0]


def test_equation_8_by_hand():
    # Pair at 0 and 90 degrees, negatives at 45 and 225: f is 4 (±√2) - 4 · 0 at 45 degrees.
    pairs = Pairs(
        torch.tensor([[-(32**0.5), 32**0.5]]), *torch.tensor([[[False] * 2], [[True] * 2]])
    )
    x = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [-1.0, -1.0]])
    apart = outside_angle(torch.cat([x[:1], x[2:3]], dim=1), torch.cat([x, x], dim=1))

    torch.testing.assert_close(apart[:, 1::2], pairs.distance)
    expected = torch.tensor([32**0.5, -(32**0.5)]).exp().sum().log1p()
    torch.testing.assert_close(losses.angular(pairs).mean(), expected)


@pytest.mark.parametrize("rows", [None, 2, 10])
@pytest.mark.parametrize("angle", [36.0, 45.0, 60.0])
def test_it_is_the_loops_of_the_paper(rows, angle):
    embeddings, labels = a_batch()

    torch.testing.assert_close(
        with_gradient(AngularLoss(angle, rows=rows)(embeddings, labels), embeddings),
        with_gradient(loops(embeddings, labels, angle), embeddings),
        rtol=1e-6,
        atol=1e-6,
    )


def test_it_is_that_of_pytorch_metric_learning_for_two_pictures_an_identity():
    # It takes anchors and positives to unit length, but forgets the negatives; so here all are.
    embeddings, labels = a_batch(8)
    peer = Peer(alpha=40)(F.normalize(embeddings), labels)

    assert Peer(alpha=40)(embeddings * 3, labels) > 1.1 * peer
    torch.testing.assert_close(
        with_gradient(AngularLoss(40.0)(embeddings, labels), embeddings),
        with_gradient(peer, embeddings),
        rtol=1e-6,
        atol=1e-6,
    )


@pytest.mark.parametrize("rows", [None, 2, 3])
def test_gradient_is_the_slope(rows):
    embeddings, labels = a_batch(3)

    assert torch.autograd.gradcheck(lambda x: AngularLoss(rows=rows)(x, labels), embeddings)


def test_lengths_do_not_matter():
    embeddings, labels = a_batch()
    longer = embeddings * torch.arange(1, 11)[:, None]

    torch.testing.assert_close(AngularLoss()(longer, labels), AngularLoss()(embeddings, labels))


def test_two_strangers_side_by_side_are_no_pair():
    embeddings, labels = a_batch()
    strangers = torch.randn(2, 3, dtype=torch.float64)
    first, second = embeddings.chunk(2)
    more = torch.cat([first, strangers[:1], second, strangers[1:]])
    names = torch.cat([labels[:5], torch.tensor([70]), labels[5:], torch.tensor([71])])
    beside = References(more, names)
    loss = partial(pairs_beside_all, losses.angular, distance=outside_angle)

    torch.testing.assert_close(
        loss(more, names).mean(), loss(embeddings, labels, references=beside).mean()
    )


def test_pictures_may_show_several_identities():
    embeddings, labels = a_batch()
    several = labels[:, None] == torch.arange(5)

    torch.testing.assert_close(
        AngularLoss()(embeddings, several), AngularLoss()(embeddings, labels)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    embeddings, labels = a_batch()
    half = embeddings.detach().to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cost = AngularLoss()(half, labels)

    assert cost.dtype == torch.float32
    torch.testing.assert_close(cost, AngularLoss()(half.float(), labels))


@pytest.mark.parametrize(
    ("embeddings", "labels"),
    [
        pytest.param(torch.zeros(0, 2), [], id="empty"),
        pytest.param(torch.ones(2, 2), [0, 0], id="one identity"),
        pytest.param(torch.zeros(4, 2), [0, 1, 0, 1], id="all zero"),
        pytest.param(torch.ones(4, 2), [0, 1, 2, 3], id="no pair"),
        pytest.param(1e9 * torch.eye(4), [0, 1, 0, 1], id="huge"),
    ],
)
@pytest.mark.parametrize("rows", [None, 1, 4])
def test_corner_cases_have_finite_values_and_gradients(embeddings, labels, rows):
    embeddings = embeddings.clone().requires_grad_()
    with torch.autograd.set_detect_anomaly(True):
        cost = AngularLoss(rows=rows)(embeddings, torch.tensor(labels, dtype=torch.int64))
        cost.backward()

    assert cost.isfinite()
    assert embeddings.grad.isfinite().all()


def test_what_cannot_be_paired_is_refused():
    embeddings, labels = a_batch()

    with pytest.raises(ValueError, match="two equal halves, got 9 rows"):
        AngularLoss()(embeddings[:9], labels[:9])
    with pytest.raises(ValueError, match="does not say which two are a pair"):
        AngularLoss()(embeddings, same=labels[:, None] == labels)


@pytest.mark.parametrize("angle", [0, 90, -45, float("nan")])
def test_an_angle_is_between_0_and_90_degrees(angle):
    with pytest.raises(ValueError, match=f"between 0 and 90 degrees, got {angle}"):
        AngularLoss(angle)


@pytest.mark.parametrize("several", [False, True])
def test_nothing_is_as_large_as_all_pairs_and_pictures(several):
    embeddings, labels = a_batch(64)
    labels = F.one_hot(labels % 5).bool() if several else labels
    with Largest() as largest:
        AngularLoss(rows=4)(embeddings, labels).backward()

    assert largest.numbers <= 16 * 128
