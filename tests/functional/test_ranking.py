"""Values by hand, traps and peers of the ranking losses; what all share is in ``laws.py``."""

import math
from functools import partial

import pytest
import torch
from pytorch_metric_learning import losses as peer_losses
from torch import Tensor

from siamlearn.functional import losses
from siamlearn.functional.blocks import accumulate
from siamlearn.functional.distances import cosine, squared_euclidean
from siamlearn.functional.losses.ranking import histograms
from siamlearn.functional.pairings import all_pairs
from siamlearn.functional.pairs import Pairs, Terms

SOFT = [losses.smooth_ap, losses.pnp]
VARIANTS = {
    "O": losses.pnp_o,
    "Iu": losses.pnp_iu,
    "Ib": losses.pnp_ib,
    "Ds": losses.pnp_ds,
    "Dq": partial(losses.pnp_dq, power=1.0),
}


def a_row(positive: list[float], negative: list[float], left_out: list[float] = ()) -> Pairs:
    """One anchor beside its positives, its negatives, and pairs that a miner left out."""
    distance = torch.tensor([[*positive, *negative, *left_out]])
    column = torch.arange(distance.shape[1])[None]
    same = column < len(positive)
    return Pairs(distance, same, ~same & (column < len(positive) + len(negative)))


def a_batch(n: int = 12, each: int = 3) -> tuple[Tensor, Tensor]:
    embeddings = torch.randn(n, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return embeddings.requires_grad_(), torch.arange(n) // each


def slope(terms: Terms, end: Tensor) -> Tensor:
    return torch.autograd.grad(terms.mean(), end)[0]


# --- FastAP ---------------------------------------------------------------------------------------


def test_fast_ap_by_hand():
    # Edges every 0.5. The positive at 0.75 is half at 0.5, where nothing is wrong, and half at 1,
    # up to where there are one negative and one positive.
    terms = losses.fast_ap(a_row([0.75], [1.0], left_out=[0.0]), bins=4)

    assert terms.count.item() == 1
    assert terms.total.item() == pytest.approx(0.5 * 0 + 0.5 * (1 / 2))


def test_fast_ap_is_the_average_precision_where_no_two_share_a_bin():
    # In order: right, wrong, right, wrong, wrong, right.
    pairs = a_row([0.0, 0.4, 1.0], [0.2, 0.6, 0.8])

    assert losses.fast_ap(pairs).mean().item() == pytest.approx(1 - (1 / 1 + 2 / 3 + 3 / 6) / 3)


def test_fast_ap_takes_squared_distances_of_unit_vectors_for_cosines():
    embeddings, labels = a_batch()
    unit = torch.nn.functional.normalize(embeddings)
    squared = partial(losses.fast_ap, farthest=4.0)

    torch.testing.assert_close(
        all_pairs(squared, unit, labels, distance=squared_euclidean).mean(),
        all_pairs(losses.fast_ap, embeddings, labels, distance=cosine).mean(),
    )


@pytest.mark.parametrize("beyond", [2.5, 1e30, torch.inf])
def test_what_lies_beyond_the_farthest_counts_there_and_is_not_moved(beyond):
    pairs = a_row([beyond, 1.9], [1.85])
    pairs.distance.requires_grad_()
    terms = losses.fast_ap(pairs)

    assert terms.total.item() == losses.fast_ap(a_row([2.0, 1.9], [1.85])).total.item()
    torch.testing.assert_close(slope(terms, pairs.distance), terms.slope)
    assert (terms.slope != 0).tolist() == [[False, True, True]]


def test_distances_below_zero_count_as_zero_and_are_not_moved():
    pairs = a_row([-0.1, 0.3], [0.1])
    pairs.distance.requires_grad_()
    terms = losses.fast_ap(pairs)

    torch.testing.assert_close(slope(terms, pairs.distance), terms.slope)
    assert (terms.slope != 0).tolist() == [[False, True, True]]


def test_fast_ap_is_never_below_zero():
    # 1 - FastAP, taken as the equation says, is -1e-7 for many anchors that rank without error.
    generator = torch.Generator().manual_seed(0)
    distance = torch.rand(500, 40, generator=generator)
    same = torch.ones(500, 40, dtype=torch.bool)

    assert losses.fast_ap(Pairs(distance, same, ~same)).total.item() == 0


# --- Smooth-AP and PNP ----------------------------------------------------------------------------


def test_smooth_ap_is_the_average_precision_where_the_temperature_is_low():
    # In order: right, wrong, right, wrong, wrong, right; and nearest of all a pair left out.
    pairs = a_row([0.1, 0.3, 0.6], [0.2, 0.4, 0.5], left_out=[0.0])

    ours = losses.smooth_ap(pairs, temperature=1e-3).mean()

    assert ours.item() == pytest.approx(1 - (1 / 1 + 2 / 3 + 3 / 6) / 3)


def test_smooth_ap_by_hand():
    # Both positives and the negative in one place: half a negative and half a positive are before
    # each positive.
    terms = losses.smooth_ap(a_row([0.4, 0.4], [0.4]))

    assert terms.count.item() == 1
    assert terms.total.item() == pytest.approx(1 - 1.5 / 2)


@pytest.mark.parametrize(
    ("penalty", "expected"),
    [
        (losses.pnp_o, 2),
        (losses.pnp_iu, 3 * math.log(3)),
        (losses.pnp_ib, (4 - math.log(5)) / 4),
        (losses.pnp_ds, math.log(3)),
        (losses.pnp_dq, 1 - 3**-4),
    ],
)
def test_pnp_by_hand(penalty, expected):
    # Two negatives before one positive, none before the other, and one pair that is left out.
    pairs = a_row([0.5, 0.0], [0.1, 0.2, 0.9], left_out=[0.3])
    terms = losses.pnp(pairs, penalty=penalty, temperature=1e-3)

    assert terms.count.item() == 1
    assert terms.total.item() == pytest.approx(expected / 2)


@pytest.mark.parametrize("loss", SOFT)
def test_more_room_for_positives_than_there_are_changes_nothing(loss):
    embeddings, labels = a_batch()
    expected = all_pairs(loss, embeddings, labels, distance=cosine).mean()
    for room in (2, 5, 99):
        cost = all_pairs(partial(loss, positives=room), embeddings, labels, distance=cosine).mean()

        torch.testing.assert_close(cost, expected)
        torch.testing.assert_close(
            torch.autograd.grad(cost, embeddings),
            torch.autograd.grad(expected, embeddings, retain_graph=True),
        )


@pytest.mark.parametrize("loss", SOFT)
def test_positives_for_which_there_is_no_room_are_left_out(loss):
    fewer = loss(a_row([0.1, 0.3], [0.2, 0.25]), positives=2)
    more = loss(a_row([0.1, 0.3], [0.2, 0.25], left_out=[0.4]), positives=2)
    pairs = a_row([0.1, 0.3, 0.4], [0.2, 0.25])

    assert loss(pairs, positives=2).total == fewer.total == more.total
    assert loss(pairs).total != fewer.total


@pytest.mark.parametrize("loss", SOFT)
@pytest.mark.parametrize("gap", [0.0, 0.05, 0.5, 2.0, 1e6, 1e30])
def test_soft_ranks_stay_finite_however_far_the_wrong_ones_are_ahead(loss, gap):
    pairs = a_row([gap], [0.0])
    pairs.distance.requires_grad_()
    terms = loss(pairs)

    assert terms.total.item() > 0.3
    assert slope(terms, pairs.distance).isfinite().all()
    # They say which way to go as long as they are within some temperatures.
    assert gap > 0.05 or (terms.slope[0, 0] > 0 and terms.slope[0, 1] < 0)


@pytest.mark.parametrize("loss", SOFT)
def test_a_second_derivative_of_soft_ranks_is_refused(loss):
    embeddings, labels = a_batch()
    cost = all_pairs(loss, embeddings, labels, distance=cosine, rows=12).mean()

    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(cost, embeddings, create_graph=True)


@pytest.mark.parametrize("loss", SOFT)
@pytest.mark.parametrize("quiet", [torch.no_grad, torch.inference_mode])
def test_soft_ranks_are_the_same_where_nothing_learns(loss, quiet):
    embeddings, labels = a_batch()
    expected = all_pairs(loss, embeddings, labels, distance=cosine).mean()
    with quiet():
        cost = all_pairs(loss, embeddings, labels, distance=cosine).mean()

    assert cost.item() == expected.item()


@pytest.mark.parametrize("loss", SOFT)
def test_many_positives_are_not_kept_one_by_one(loss):
    same = torch.arange(64) < 40
    pairs = Pairs(torch.rand(8, 64).requires_grad_(), same.expand(8, -1), ~same.expand(8, -1))
    kept = []

    def keep(saved: Tensor) -> Tensor:
        kept.append(saved.numel())
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        loss(pairs)

    assert [size for size in kept if size >= 8 * 64] == [8 * 64]


@pytest.mark.parametrize("loss", SOFT)
@pytest.mark.parametrize("positives", [None, 3])
def test_soft_ranks_are_the_same_where_they_are_compiled(loss, positives, monkeypatch):
    # What a compiler would be given; that it takes it is tried where all losses are compiled.
    embeddings, labels = a_batch()
    terms = partial(loss, positives=positives, temperature=0.1)
    plain = all_pairs(terms, embeddings, labels, distance=cosine).mean()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    compiled = all_pairs(terms, embeddings, labels, distance=cosine).mean()

    torch.testing.assert_close(compiled, plain)
    torch.testing.assert_close(
        *(torch.autograd.grad(cost, embeddings) for cost in (compiled, plain))
    )


# --- Against pytorch-metric-learning --------------------------------------------------------------


def with_every_anchor_its_own_positive(loss, embeddings: Tensor, labels: Tensor) -> Tensor:
    """Where the programs of the papers, and the peer after them, leave their equations."""
    beside = embeddings, labels, embeddings, labels
    return accumulate(loss, *beside, distance=cosine, rows=len(labels)).mean()


def assert_same_with_gradient(one: Tensor, other: Tensor, embeddings: Tensor) -> None:
    both = [(each, *torch.autograd.grad(each, embeddings)) for each in (one, other)]
    torch.testing.assert_close(*both, rtol=1e-6, atol=1e-9)


def test_the_smooth_ap_of_pytorch_metric_learning_counts_every_anchor_too():
    embeddings, labels = a_batch(9)
    peer = peer_losses.SmoothAPLoss(temperature=0.1)(embeddings, labels)
    soft = partial(losses.smooth_ap, temperature=0.1)
    ours = with_every_anchor_its_own_positive(soft, embeddings, labels)

    assert_same_with_gradient(ours, peer.double(), embeddings)
    assert peer < 0.8 * all_pairs(soft, embeddings, labels, distance=cosine).mean()


def test_the_smooth_ap_of_pytorch_metric_learning_takes_pictures_for_identities():
    # Four identities of three pictures are to it three of four: it is right for squares alone.
    embeddings, labels = a_batch(12)
    soft = partial(losses.smooth_ap, temperature=0.1)
    misread = torch.arange(12) // 4
    peer = peer_losses.SmoothAPLoss(temperature=0.1)(embeddings, labels)

    right, wrong = (
        with_every_anchor_its_own_positive(soft, embeddings, names) for names in (labels, misread)
    )

    assert peer.item() == pytest.approx(wrong.item(), rel=1e-6)
    assert abs(peer - right) > 0.01


def test_the_smooth_ap_of_pytorch_metric_learning_depends_on_the_order_of_the_batch():
    # It takes the first pictures for the first identity, whatever the labels say.
    embeddings, labels = a_batch(9)
    order = torch.arange(9).reshape(3, 3).T.flatten()

    def both(loss) -> tuple[float, float]:
        return loss(embeddings, labels).item(), loss(embeddings[order], labels[order]).item()

    in_order, shuffled = both(peer_losses.SmoothAPLoss())
    assert abs(in_order - shuffled) > 0.01

    in_order, shuffled = both(lambda *b: all_pairs(losses.smooth_ap, *b, distance=cosine).mean())
    assert in_order == pytest.approx(shuffled, rel=1e-12)


def test_the_smooth_ap_of_pytorch_metric_learning_refuses_what_is_no_trouble():
    embeddings, labels = a_batch()
    labels = labels.clamp(max=2)  # three, three, and six pictures
    cost = all_pairs(losses.smooth_ap, embeddings, labels, distance=cosine).mean()

    assert 0 < cost < 1
    with pytest.raises(ValueError, match="same number of elements"):
        peer_losses.SmoothAPLoss()(embeddings, labels)
    with pytest.raises(RuntimeError, match="non-negative"):
        peer_losses.SmoothAPLoss()(embeddings, labels - 5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_pnp_of_pytorch_metric_learning_counts_every_anchor_too(variant):
    embeddings, labels = a_batch(each=2)
    peer = peer_losses.PNPLoss(variant=variant, anneal=0.1)(embeddings, labels)
    soft = partial(losses.pnp, penalty=VARIANTS[variant], temperature=0.1)
    ours = with_every_anchor_its_own_positive(soft, embeddings, labels)

    assert_same_with_gradient(ours, peer, embeddings)
    assert peer < 0.8 * all_pairs(soft, embeddings, labels, distance=cosine).mean()


# --- Histograms -----------------------------------------------------------------------------------


def test_histograms_by_hand():
    # Edges at 0, 1, 2: positives at 0.25 and at 2, a negative at 1.5, one beyond, one left out.
    terms = histograms(a_row([0.25, 2.0], [1.5, 7.0], left_out=[1.0]), bins=2)

    assert terms.total.tolist() == [0, 0.5, 1.5, 0.75, 0.25, 1]
    assert terms.count.tolist() == [2, 2, 2, 2, 2, 2]
