"""Modules of losses of single pairs: what they learn, look at twice, or look at by half."""

import subprocess
import sys

import pytest
import torch
from pytorch_metric_learning import losses as peer_losses
from torch import Tensor

from siamlearn.functional import losses
from siamlearn.functional.distances import cosine, euclidean, squared_euclidean
from siamlearn.functional.pairings import References, adjacent_pairs, all_pairs, two_towers
from siamlearn.functional.pairs import Pairs, Terms
from siamlearn.nn.losses import (
    ContrastiveLoss,
    IntraPairVarianceLoss,
    MarginLoss,
    PairLoss,
    SigmoidLoss,
    ThresholdConsistentLoss,
)


def a_batch(n: int = 12, names: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    embeddings = torch.randn(n, 5, generator=generator, dtype=torch.float64)
    return embeddings.requires_grad_(), torch.arange(n) % names


def learned(loss: PairLoss, embeddings: Tensor, *batch: object, **how: object) -> tuple:
    """The cost, and its gradients by the embeddings and by what the loss learns."""
    cost = loss(embeddings, *batch, **how)
    return cost, *torch.autograd.grad(cost, [embeddings, *loss.parameters()])


# --- Half of the pairs where (i, j) costs what (j, i) does ----------------------------------------


@pytest.mark.parametrize("distance", [cosine, euclidean, squared_euclidean])
@pytest.mark.parametrize(
    ("loss", "how"),
    [
        (ContrastiveLoss, {"margin": 2.0}),
        (ContrastiveLoss, {"margin": 2.0, "positive_margin": 0.5, "squared": False}),
        (ContrastiveLoss, {"margin": 2.0, "apart": True}),
        (ThresholdConsistentLoss, {"margin": 1.0, "weight": 3.0}),
    ],
)
def test_half_of_the_pairs_tells_the_whole(loss, how, distance):
    batch = a_batch()
    half, whole = (loss(**how, distance=distance, rows=rows) for rows in (3, 12))

    assert loss.symmetric
    torch.testing.assert_close(learned(half, *batch), learned(whole, *batch))


def test_half_of_the_pairs_is_looked_at_and_no_more():
    seen = []

    class Watched(PairLoss):
        """A fake loss that remembers its blocks."""

        symmetric = True

        def terms(self, pairs: Pairs) -> Terms:
            seen.append(int(pairs.positive.sum() + pairs.negative.sum()))
            return losses.contrastive(pairs)

    Watched(rows=3)(*a_batch())

    assert sum(seen) == 12 * 11 / 2


# --- The boundary of the margin loss --------------------------------------------------------------


@pytest.mark.parametrize("rows", [None, 5, 12])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_each_identity_learns_a_boundary_of_its_own(rows, dtype):
    embeddings, labels = a_batch()
    loss = MarginLoss(0.25, boundary=2.0, classes=4, regularisation=0.5, rows=rows).double()
    with torch.no_grad():
        loss.boundary += torch.tensor([0.0, 0.5, 1.0, 9.0])
    cost, _, by_boundary = learned(loss, embeddings, labels.to(dtype))

    costs, d = [], euclidean(embeddings, embeddings)
    for i in range(12):
        for j in set(range(12)) - {i}:
            way = 1 if labels[i] == labels[j] else -1
            costs.append((0.25 + way * (d[i, j] - loss.boundary[labels[i]])).relu())
    costs = torch.stack(costs)
    by_hand = costs.sum() / (costs > 0).sum() + 0.5 * loss.boundary[labels].mean()
    torch.testing.assert_close(cost, by_hand)
    torch.testing.assert_close(by_boundary, torch.autograd.grad(by_hand, loss.boundary)[0])
    assert by_boundary[:3].ne(0).all()
    assert by_boundary[3] == 0


def test_a_boundary_is_moved_to_where_it_parts_best():
    # Positives at 1, negatives at 3: no boundary from 1.25 to 2.75 costs anything.
    embeddings = torch.tensor([[0.0], [1.0], [4.0], [5.0]])
    labels = torch.tensor([0, 0, 1, 1])
    loss = MarginLoss(0.25, boundary=0.5, learned=True)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        loss(embeddings, labels).backward()
        optimizer.step()

    assert loss(embeddings, labels) == 0
    assert 1.25 <= loss.boundary <= 1.5


def test_labels_without_a_boundary_are_refused():
    loss = MarginLoss(classes=2)

    with pytest.raises(ValueError, match=r"labels must be from 0 to 1.*got 2"):
        loss(*a_batch())
    with pytest.raises(ValueError, match=r"one identity a picture.*got \(12, 3\)"):
        loss(a_batch()[0], torch.ones(12, 3, dtype=torch.bool))


# --- The sigmoid loss -----------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [None, 2, 6])
def test_two_towers_cost_what_the_program_of_the_paper_says(rows):
    embeddings, _ = a_batch()
    labels = torch.arange(6).repeat(2)
    loss = SigmoidLoss(pairing=two_towers, rows=rows).double()
    pictures, captions = torch.nn.functional.normalize(embeddings).chunk(2)
    logits = pictures @ captions.mT * loss.log_scale.exp() + loss.bias
    signs = 2 * torch.eye(6) - torch.ones(6, 6)
    by_hand = -torch.nn.functional.logsigmoid(signs * logits).sum() / 6

    ends = [embeddings, *loss.parameters()]
    torch.testing.assert_close(
        learned(loss, embeddings, labels), (by_hand, *torch.autograd.grad(by_hand, ends))
    )


# --- The variance of the pairs, looked at twice ---------------------------------------------------


def by_mean_and_variance(d: Tensor, same: Tensor, pairs: Tensor, slack: float = 0.01) -> Tensor:
    s = 1 - d
    positives, negatives = s[same & pairs], s[~same & pairs]
    pull = ((1 - slack) * positives.mean() - positives).relu().square().mean()
    return pull + (negatives - (1 + slack) * negatives.mean()).relu().square().mean()


@pytest.mark.parametrize("rows", [None, 1, 5, 12])
def test_intra_pair_variance_equals_its_peer_also_in_the_gradient_through_the_means(rows):
    embeddings, labels = a_batch()
    theirs = peer_losses.IntraPairVarianceLoss()(embeddings, labels)
    ours = IntraPairVarianceLoss(rows=rows)

    torch.testing.assert_close(
        learned(ours, embeddings, labels), (theirs, *torch.autograd.grad(theirs, embeddings))
    )


@pytest.mark.parametrize("rows", [None, 4])
def test_the_gradient_through_the_means_is_the_slope(rows):
    embeddings, labels = a_batch(8)

    assert torch.autograd.gradcheck(
        lambda x: IntraPairVarianceLoss(0.1, slack=0.3, rows=rows)(x, labels), embeddings
    )


@pytest.mark.parametrize("rows", [None, 4])
def test_the_miner_chooses_for_the_means_too(rows):
    embeddings, labels = a_batch()

    def near(pairs: Pairs) -> Pairs:
        return pairs.keep(positive=pairs.distance < 1.2, negative=pairs.distance < 1.1)

    d = cosine(embeddings, embeddings)
    same = labels[:, None] == labels
    kept = torch.where(same, d < 1.2, d < 1.1) & ~torch.eye(12, dtype=torch.bool)
    by_hand = by_mean_and_variance(d, same, kept)
    torch.testing.assert_close(
        learned(IntraPairVarianceLoss(miner=near, rows=rows), embeddings, labels),
        (by_hand, *torch.autograd.grad(by_hand, embeddings)),
    )


@pytest.mark.parametrize("rows", [None, 4])
def test_variance_may_be_of_references_which_are_asked_for_once(rows):
    (embeddings, labels), (others, names) = a_batch(), a_batch(9)
    asked = []

    def references(x: Tensor, y: Tensor) -> References:
        asked.append(len(x))
        return References(others, names)

    loss = IntraPairVarianceLoss(references=references, rows=rows)
    cost = loss(embeddings, labels)

    assert asked == [12]
    same = labels[:, None] == names
    by_hand = by_mean_and_variance(cosine(embeddings, others), same, torch.ones_like(same))
    torch.testing.assert_close(
        (cost, *torch.autograd.grad(cost, [embeddings, others])),
        (by_hand, *torch.autograd.grad(by_hand, [embeddings, others])),
    )


@pytest.mark.parametrize("pairing", [adjacent_pairs, two_towers, all_pairs])
def test_variance_may_be_of_any_pairing(pairing):
    embeddings, labels = a_batch(12, names=4)
    cost, gradient = learned(IntraPairVarianceLoss(pairing=pairing), embeddings, labels)

    assert cost > 0
    assert gradient.isfinite().all()
    with torch.no_grad():
        torch.testing.assert_close(
            IntraPairVarianceLoss(pairing=pairing)(embeddings, labels), cost.detach()
        )


@pytest.mark.parametrize(
    ("embeddings", "labels"),
    [
        pytest.param(torch.ones(0, 2), [], id="nobody"),
        pytest.param(torch.ones(1, 2), [0], id="one picture"),
        pytest.param(torch.eye(3, 2), [0, 0, 0], id="one identity"),
        pytest.param(torch.eye(3, 2), [0, 1, 2], id="each its own"),
        pytest.param(torch.ones(4, 2), [0, 0, 1, 1], id="all in one place"),
        pytest.param(torch.zeros(4, 2), [0, 0, 1, 1], id="all zero"),
    ],
)
@pytest.mark.parametrize("rows", [None, 2, 4])
def test_variance_of_corner_cases_is_finite(embeddings, labels, rows):
    embeddings = embeddings.clone().requires_grad_()
    labels = torch.tensor(labels, dtype=torch.int64)
    with torch.autograd.set_detect_anomaly(True):
        cost = IntraPairVarianceLoss(rows=rows)(embeddings, labels)
        cost.backward()

    assert cost.isfinite()
    assert cost >= 0
    assert embeddings.grad.isfinite().all()


def test_variance_and_sums_are_captured_whole_by_the_compiler():
    # In a process of its own, where the shapes are not checked: the checks cannot be captured.
    program = """
import torch
from siamlearn.nn.losses import EmbeddingNorm, IntraPairVarianceLoss, TripletLoss
loss = IntraPairVarianceLoss() + 0.5 * TripletLoss() + 0.1 * EmbeddingNorm()
x = torch.randn(12, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
y = torch.arange(12) % 3
compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
torch.testing.assert_close(compiled(x, y), loss(x, y))
torch.testing.assert_close(
    torch.autograd.grad(compiled(x, y), x), torch.autograd.grad(loss(x, y), x)
)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


# --- Settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: ContrastiveLoss(positive_margin=-0.1), "positive_margin must be at least zero"),
        (lambda: ThresholdConsistentLoss(0.0), "margin must be above zero"),
        (lambda: ThresholdConsistentLoss(weight=float("nan")), "weight must be at least zero"),
        (lambda: MarginLoss(-0.1), "margin must be at least zero"),
        (lambda: MarginLoss(boundary=0.0), "boundary must be above zero"),
        (lambda: MarginLoss(classes=0), "classes must be at least 1, got 0"),
        (lambda: MarginLoss(regularisation=0.1), "not learned; pass learned=True"),
        (lambda: SigmoidLoss(0.0), "scale must be above zero"),
        (lambda: SigmoidLoss(bias=float("inf")), "bias must be finite, got inf"),
        (lambda: IntraPairVarianceLoss(-0.1), "positive_slack must be at least zero"),
    ],
)
def test_settings_out_of_range_are_refused(make, rule):
    with pytest.raises(ValueError, match=rule):
        make()


def test_repr_names_the_pairing_that_is_done_twice():
    assert "pairing=two_towers" in repr(IntraPairVarianceLoss(pairing=two_towers))
