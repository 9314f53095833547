"""The histogram loss, which is no sum over rows, and the settings of the ranking losses."""

from itertools import combinations

import pytest
import torch
from pytorch_metric_learning import losses as peer_losses
from torch import Tensor

from siamlearn.functional.distances import cosine, euclidean
from siamlearn.functional.pairings import adjacent_pairs
from siamlearn.functional.pairs import Pairs
from siamlearn.nn.losses import FastAPLoss, HistogramLoss, PNPLoss, SmoothAPLoss

# The peer indexes with lists in a way that torch has deprecated.
ignore_its_warning = pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")


def a_batch(n: int = 12, each: int = 3) -> tuple[Tensor, Tensor]:
    embeddings = torch.randn(n, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return embeddings.requires_grad_(), torch.arange(n) // each


def with_gradient(cost: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
    return cost, torch.autograd.grad(cost, embeddings)[0]


def histogram_loops(d: Tensor, y: list[int], bins: int) -> Tensor:
    """Equations 1 to 4, pair by pair and edge by edge, by similarity."""
    width, pairs = 2 / bins, list(combinations(range(len(y)), 2))
    edges = [-1 + width * r for r in range(bins + 1)]

    def density(alike: bool) -> list[Tensor]:
        s = torch.stack([1 - d[i, j] for i, j in pairs if (y[i] == y[j]) == alike])
        return [(1 - (s - edge).abs() / width).relu().mean() for edge in edges]

    positive, negative = density(True), density(False)
    return sum(negative[r] * sum(positive[: r + 1]) for r in range(bins + 1))


@pytest.mark.parametrize("rows", [None, 1, 5, 12])
def test_the_histogram_loss_is_that_of_the_paper_in_blocks_of_any_size(rows):
    embeddings, labels = a_batch()
    by_hand = histogram_loops(cosine(embeddings, embeddings), labels.tolist(), bins=20)
    cost = HistogramLoss(20, rows=rows)(embeddings, labels)

    torch.testing.assert_close(with_gradient(cost, embeddings), with_gradient(by_hand, embeddings))


def test_the_gradient_of_the_histogram_loss_is_its_slope():
    embeddings, labels = a_batch(8, each=2)

    assert torch.autograd.gradcheck(lambda x: HistogramLoss(10, rows=3)(x, labels), embeddings)


def test_the_histogram_loss_does_not_depend_on_the_order_of_the_batch():
    embeddings, labels = a_batch()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))

    torch.testing.assert_close(
        with_gradient(HistogramLoss()(embeddings[order], labels[order]), embeddings),
        with_gradient(HistogramLoss()(embeddings, labels), embeddings),
    )


@ignore_its_warning
def test_the_histogram_loss_equals_that_of_pytorch_metric_learning():
    embeddings, labels = a_batch()
    peer = peer_losses.HistogramLoss(n_bins=30)(embeddings, labels)

    torch.testing.assert_close(
        with_gradient(HistogramLoss(30)(embeddings, labels), embeddings),
        with_gradient(peer, embeddings),
        rtol=1e-6,
        atol=1e-6,
    )


@ignore_its_warning
def test_the_histogram_loss_of_pytorch_metric_learning_forgets_negative_pairs():
    # It takes pairs from triplets, and two identities of one picture each are in none together.
    embeddings, _ = a_batch(6)
    labels = torch.tensor([0, 0, 1, 1, 2, 3])
    by_hand = histogram_loops(cosine(embeddings, embeddings), labels.tolist(), bins=10)
    peer = peer_losses.HistogramLoss(n_bins=10)(embeddings, labels)

    torch.testing.assert_close(HistogramLoss(10)(embeddings, labels), by_hand)
    assert abs(peer - by_hand) > 1e-3


@ignore_its_warning
def test_a_cosine_rounded_beyond_one_is_counted_as_one():
    # Twice the same pictures: of some the cosine in float32 is 1.0000001, one bin too far.
    drawn = torch.randn(100, 2, 64, generator=torch.Generator().manual_seed(0)).repeat(1, 2, 1)
    labels = torch.tensor([0, 1, 0, 1])
    refused = []
    for embeddings in drawn:
        assert HistogramLoss()(embeddings, labels) < 1e-5
        try:
            peer_losses.HistogramLoss()(embeddings, labels)
        except RuntimeError as error:
            refused.append(str(error))
    assert refused  # which of them, depends on the processor
    assert all("index 101 is out of bounds" in message for message in refused)


@pytest.mark.parametrize("distance", [cosine, euclidean])
@pytest.mark.parametrize("rows", [None, 2])
@pytest.mark.parametrize(
    ("embeddings", "labels"),
    [
        pytest.param([[1.0, 2.0]], [0], id="one picture"),
        pytest.param([[1.0, 2.0], [0.0, 1.0], [3.0, 1.0]], [5, 5, 5], id="one identity"),
        pytest.param([[1.0, 2.0], [0.0, 1.0], [3.0, 1.0]], [0, 1, 2], id="each its own"),
        pytest.param([[1.0, 2.0]] * 4, [0, 0, 1, 1], id="all in one place"),
        pytest.param([[0.0, 0.0]] * 4, [0, 0, 1, 1], id="all zero"),
        pytest.param([[1e9, 0.0], [0.0, 1e9]] * 2, [0, 0, 1, 1], id="huge"),
    ],
)
def test_corner_cases_have_finite_histogram_losses(distance, rows, embeddings, labels):
    embeddings = torch.tensor(embeddings, requires_grad=True)
    with torch.autograd.set_detect_anomaly(True):
        cost = HistogramLoss(distance=distance, rows=rows)(embeddings, torch.tensor(labels))
        cost.backward()

    assert 0 <= cost <= 1 + 1e-5
    assert embeddings.grad.isfinite().all()


def test_an_empty_batch_has_no_histogram_loss():
    embeddings = torch.zeros(0, 3, requires_grad=True)
    cost = HistogramLoss()(embeddings, torch.zeros(0, dtype=torch.int64))
    cost.backward()

    assert cost == 0


def test_a_nan_embedding_is_not_hidden_in_a_bin():
    embeddings, labels = a_batch()
    embeddings.data[3, 1] = torch.nan

    assert HistogramLoss(rows=5)(embeddings, labels).isnan()


def test_the_histogram_loss_takes_references_miners_and_pairs_side_by_side():
    embeddings, labels = a_batch()
    seen = []

    def spy(pairs: Pairs) -> Pairs:
        seen.append(tuple(pairs.distance.shape))
        return pairs

    given = HistogramLoss(4, miner=spy)(embeddings[:4], labels[:4], (embeddings[4:], labels[4:]))
    half_alike = torch.tensor([0] * 6 + [0, 1] * 3)
    beside = HistogramLoss(4, pairing=adjacent_pairs)(embeddings, half_alike)

    assert seen == [(4, 8), (4, 8)]  # once for the histograms, once for the gradient
    for cost in (given, beside):
        assert 0 < cost < 1
        assert with_gradient(cost, embeddings)[1].norm() > 0


def test_the_histogram_loss_is_the_same_where_nothing_learns():
    embeddings, labels = a_batch()
    with torch.inference_mode():
        quiet = HistogramLoss()(embeddings, labels)

    assert quiet == HistogramLoss()(embeddings, labels)
    assert repr(HistogramLoss()) == (
        "HistogramLoss(distance=cosine, pairing=all_pairs, bins=100, farthest=2.0)"
    )


@pytest.mark.parametrize("loss", [FastAPLoss, HistogramLoss])
def test_bins_must_be_at_least_one_and_end_somewhere(loss):
    with pytest.raises(ValueError, match="bins must be at least 1, got 0: distances are cut"):
        loss(0)
    with pytest.raises(ValueError, match="farthest must be above zero and finite, got inf"):
        loss(farthest=torch.inf)


@pytest.mark.parametrize("loss", [SmoothAPLoss, PNPLoss])
def test_settings_of_soft_ranks_are_checked(loss):
    with pytest.raises(ValueError, match=r"temperature must be above zero and finite, got -1\.0"):
        loss(temperature=-1.0)
    with pytest.raises(ValueError, match="positives must be at least 1, got 0: an anchor without"):
        loss(positives=0)


@pytest.mark.parametrize("loss", [FastAPLoss, SmoothAPLoss, PNPLoss])
def test_losses_that_rank_refuse_a_siamese_batch(loss):
    with pytest.raises(ValueError, match="would always be 0; use all_pairs"):
        loss(pairing=adjacent_pairs)
