"""Losses of single pairs: values by hand, and traps; what all losses share is in ``laws.py``."""

import math

import pytest
import torch
from pytorch_metric_learning import losses as peer_losses

from siamlearn.functional import losses
from siamlearn.functional.distances import cosine, euclidean, signal_to_noise
from siamlearn.functional.pairings import all_pairs
from siamlearn.functional.pairs import Pairs


def a_row(positive: list[float], negative: list[float], left_out: list[float] = ()) -> Pairs:
    """One anchor beside its positives, its negatives, and pairs that a miner left out."""
    distance = torch.tensor([[*positive, *negative, *left_out]])
    column = torch.arange(distance.shape[1])[None]
    same = column < len(positive)
    return Pairs(distance, same, ~same & (column < len(positive) + len(negative)))


def test_contrastive_lets_both_kinds_alone_within_their_margins():
    pairs = a_row([0.25, 1.0], [0.5, 3.0], left_out=[9.0])
    squared = losses.contrastive(pairs, margin=2.0, positive_margin=0.5)
    plain = losses.contrastive(pairs, margin=2.0, positive_margin=0.5, squared=False)

    assert squared.mean().item() == pytest.approx((0.5**2 + 1.5**2) / 4)
    assert plain.mean().item() == pytest.approx((0.5 + 1.5) / 4)


def test_contrastive_apart_counts_what_costs_and_each_kind_on_its_own():
    # One of two positives costs 0.5; of four negatives two do, 1.5 and 0.5.
    pairs = a_row([0.25, 1.0], [0.5, 1.5, 3.0, 4.0], left_out=[9.0, 0.0])
    terms = losses.contrastive(pairs, margin=2.0, positive_margin=0.5, squared=False, apart=True)

    assert terms.total.tolist() == [0.5, 2.0]
    assert terms.count.tolist() == [1, 2]
    assert [slope.tolist() for slope in terms.slopes] == [
        [[0, 1, 0, 0, 0, 0, 0, 0]],
        [[0, 0, -1, -1, 0, 0, 0, 0]],
    ]


def test_threshold_consistent_is_of_cosines_what_the_paper_says():
    # Similarities: positives 0.8 and 0.95 beside m+ = 0.9, negatives 0.7 and 0.2 beside m- = 0.5.
    pairs = a_row([0.2, 0.05], [0.3, 0.8], left_out=[0.0, 1.0])
    terms = losses.threshold_consistent(pairs, weight=3.0, positive_weight=2.0)

    assert terms.mean().item() == pytest.approx(2 * (0.9 - 0.8) + 3 * (0.7 - 0.5))


def test_threshold_consistent_compares_with_references_where_its_peer_forgets_them():
    # The peer looks up the embeddings of the batch where it should those of the references.
    generator = torch.Generator().manual_seed(0)
    here, there = torch.randn(2, 8, 4, generator=generator)
    labels = torch.arange(8) // 2
    peer = peer_losses.ThresholdConsistentMarginLoss()
    pairs = Pairs(cosine(here, there), labels[:, None] == labels, labels[:, None] != labels)
    s, own = 1 - pairs.distance, pairs.positive
    by_hand = (0.9 - s[own])[s[own] < 0.9].mean() + (s[~own] - 0.5)[s[~own] > 0.5].mean()

    assert peer(here, labels, ref_emb=there, ref_labels=labels) == peer(
        here, labels, ref_emb=-there, ref_labels=labels
    )
    torch.testing.assert_close(losses.threshold_consistent(pairs).mean(), by_hand)


def test_margin_based_by_hand():
    # Boundary 1, margin 0.25: positives may be up to 0.75, negatives from 1.25 on.
    pairs = a_row([0.5, 1.0], [1.0, 2.0], left_out=[0.0, 9.0])
    terms = losses.margin_based(pairs, margin=0.25, boundary=1.0)

    assert (terms.total.item(), terms.count.item()) == (0.25 + 0.25, 2)
    assert terms.slope.tolist() == [[0, 1, -1, 0, 0, 0]]


def test_margin_based_has_a_boundary_for_each_row():
    rows = [a_row([1.0], [1.0]), a_row([1.0], [1.0])]
    pairs = Pairs(
        *(torch.cat([getattr(row, end) for row in rows]) for end in Pairs.__match_args__[:3])
    )
    boundary = torch.tensor([1.0, 2.0], requires_grad=True)
    terms = losses.margin_based(pairs, margin=0.25, boundary=boundary, regularisation=0.5)
    terms.total.sum().backward()

    assert terms.total.tolist() == [0.25 + 0.25 + 1.25, 0.5 * (1 + 2)]
    assert terms.count.tolist() == [3, 2]
    assert boundary.grad.tolist() == [0.5 - 1 + 1, 0.5 + 1]


def test_balanced_margins_are_those_of_all_triplets():
    # Each of two positives stands beside each of three negatives: 6 triplets of 2 pairs.
    pairs = a_row([1.0, 0.0], [1.0, 1.0, 9.0])
    terms = losses.margin_based(pairs, margin=0.25, boundary=1.0, balanced=True)

    assert terms.count.item() == 3 * 1 + 2 * 2
    assert terms.total.item() == 0.25 * 7


def test_a_boundary_for_each_identity_weighs_as_one_for_all_unlike_in_its_peer():
    # The peer adds the boundary once where there is one; where there is one for each identity, as
    # often as there are triplets, divided by the pairs that cost anything.
    embeddings = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8) // 2
    how = {"beta": 1.0, "nu": 1.0, "learn_beta": True}
    of_all, of_each = (
        peer_losses.MarginLoss(**how, num_classes=classes)(embeddings, labels)
        for classes in (None, 4)
    )

    def ours(boundary: torch.Tensor) -> torch.Tensor:
        return all_pairs(
            lambda pairs: losses.margin_based(
                pairs, boundary=boundary, regularisation=1.0, balanced=True
            ),
            embeddings,
            labels,
            distance=lambda x, y: euclidean(x / x.norm(dim=1)[:, None], y / y.norm(dim=1)[:, None]),
            rows=8,
        ).mean()

    torch.testing.assert_close(ours(torch.tensor(1.0)), of_all)
    torch.testing.assert_close(ours(torch.ones(8)), of_all)
    assert abs(of_each - of_all) > 0.01


def test_sigmoid_by_hand():
    # Logits: 2 (1 - 0) - 1 = 1 for the positive, 2 (1 - 1.5) - 1 = -2 for the negative.
    pairs = a_row([0.0], [1.5], left_out=[0.3])
    terms = losses.sigmoid(pairs, scale=2.0, bias=-1.0)

    assert terms.count.item() == 1
    assert terms.total.item() == pytest.approx(math.log1p(math.exp(-1)) + math.log1p(math.exp(-2)))


@pytest.mark.parametrize("scale", [1e-6, 1e4])
def test_sigmoid_is_exact_at_extreme_scales(scale):
    distance = torch.tensor([[0.5, 0.5]], requires_grad=True)
    same = torch.tensor([[True, False]])
    terms = losses.sigmoid(Pairs(distance, same, ~same), scale=scale, bias=0.0)
    (slope,) = torch.autograd.grad(terms.total, distance)

    logit = scale / 2
    assert terms.total.item() == pytest.approx(2 * math.log1p(math.exp(-logit)) + logit)
    torch.testing.assert_close(terms.slope, slope)


def test_sigmoid_has_a_slope_only_where_nothing_else_learns():
    pairs = a_row([0.5], [0.5])
    scale = torch.tensor(2.0, requires_grad=True)

    assert losses.sigmoid(pairs, scale=scale).slope is None
    assert losses.sigmoid(pairs, scale=scale.detach()).slope is not None


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
@pytest.mark.parametrize("loss", [losses.mean_distances, losses.nearest_rival])
def test_means_and_rivals_of_nobody_are_nothing(loss, shape):
    nobody = torch.zeros(shape, dtype=torch.bool)

    assert loss(Pairs(torch.zeros(shape), nobody, nobody)).mean() == 0


# --- The distance that some of them are taken with ------------------------------------------------


def test_signal_to_noise_is_a_quotient_of_variances():
    x, y = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    by_hand = torch.stack([(one - y).var(dim=1) / one.var() for one in x])

    torch.testing.assert_close(signal_to_noise(x, y), by_hand)
    torch.testing.assert_close(signal_to_noise(x + 3, y - 2), by_hand)
    torch.testing.assert_close(signal_to_noise(-4 * x, -4 * y), by_hand)
    assert signal_to_noise(x, x).diagonal().eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("level", [0.0, 5.0])
def test_an_anchor_without_variance_has_finite_distances_and_is_led_away(dtype, level):
    anchor = torch.full((1, 4), level, dtype=dtype, requires_grad=True)
    others = torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 1.0, 1.0]], dtype=dtype)
    with torch.autograd.set_detect_anomaly(True):
        distance = signal_to_noise(anchor, others)
        distance.float().log1p().sum().backward()

    assert distance.isfinite().all()
    assert distance[0, 0] > 1e9
    assert distance[0, 1] == 0
    assert anchor.grad.isfinite().all()
    assert anchor.grad.norm() > 0


def test_the_peer_of_signal_to_noise_is_infinite_there():
    batch = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], requires_grad=True)
    cost = peer_losses.SignalToNoiseRatioContrastiveLoss()(batch, torch.tensor([0, 0, 1, 1]))
    cost.backward()

    assert cost.isinf()
    assert batch.grad.isnan().any()


def test_signal_to_noise_of_single_dimensions_is_zero_not_nan():
    assert signal_to_noise(torch.tensor([[3.0]]), torch.tensor([[1.0], [3.0]])).tolist() == [[0, 0]]
