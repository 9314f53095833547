"""Values by hand and traps of the losses of whole anchors; what they share is in ``laws.py``."""

import copy
import math
from functools import partial

import pytest
import torch
from torch import Tensor

from siamlearn.functional import losses, mining
from siamlearn.functional.distances import (
    cosine,
    euclidean,
    signal_to_noise,
    squared_euclidean,
)
from siamlearn.functional.margins import additive_margin
from siamlearn.functional.pairings import References, adjacent_triplets, itself, two_towers
from siamlearn.functional.pairs import Pairs
from siamlearn.nn.losses import (
    CircleLoss,
    LiftedStructureLoss,
    MultiSimilarityLoss,
    TupletMarginLoss,
)

every_height = pytest.mark.parametrize("rows", [None, 1, 3, 99])


def a_row(positive: list[float], negative: list[float], left_out: list[float] = ()) -> Pairs:
    """One anchor beside its positives, its negatives, and pairs that a miner left out."""
    distance = torch.tensor([[*positive, *negative, *left_out]])
    column = torch.arange(distance.shape[1])[None]
    same = column < len(positive)
    return Pairs(distance, same, ~same & (column < len(positive) + len(negative)))


def a_batch(n: int = 10, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return embeddings.requires_grad_(), torch.arange(n) % 4


def with_gradient(cost: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
    return cost, torch.autograd.grad(cost, embeddings)[0]


# --- Multi-similarity -----------------------------------------------------------------------------


def test_multi_similarity_by_hand():
    # At base 0.5: positives 0.2 and 0.6 too far, the negative 0.1 too near.
    pairs = a_row([0.7, 1.1], [0.4], left_out=[0.0])
    terms = losses.multi_similarity(pairs, positive_scale=2.0, negative_scale=10.0, base=0.5)

    far = math.log(1 + math.exp(0.4) + math.exp(1.2)) / 2
    assert terms.count.item() == 1
    assert terms.total.item() == pytest.approx(far + math.log(1 + math.exp(1)) / 10)


def test_multi_similarity_counts_all_anchors_and_each_part_on_its_own():
    alone, apart = torch.eye(2, requires_grad=True), torch.tensor([0, 1])
    cost = MultiSimilarityLoss(negative_scale=1.0, base=0.0)(alone, apart)

    assert cost.item() == pytest.approx(math.log(2))
    together = MultiSimilarityLoss(positive_scale=1.0, base=0.0)(alone, apart * 0)
    assert together.item() == pytest.approx(math.log(2))


# --- Circle ---------------------------------------------------------------------------------------


def test_circle_by_hand():
    # m = 0.25: the positive at s = 0.5 has the weight 0.75, the negative at s = 0.25 that of 0.5.
    terms = losses.circle(a_row([0.5], [0.75], left_out=[0.0]), relaxation=0.25, scale=8.0)

    exponent = -8 * 0.75 * (0.5 - 0.75) + 8 * 0.5 * (0.25 - 0.25)
    chance = 1 / (1 + math.exp(-exponent))
    assert terms.total.item() == pytest.approx(math.log1p(math.exp(exponent)))
    # Section 3.3: the weights times the chance, and nothing from the weights themselves.
    assert terms.slope.tolist() == [
        [pytest.approx(8 * 0.75 * chance), pytest.approx(-8 * 0.5 * chance), 0]
    ]


def test_circle_leaves_alone_what_is_better_than_asked():
    # s > 1 + m cannot be; a negative with s < -m has the weight 0, and so no slope.
    terms = losses.circle(a_row([0.1], [1.5, 0.9]), relaxation=0.25)

    assert terms.slope[0, 1] == 0
    assert terms.slope[0, 2] < 0


def test_circle_needs_both_a_positive_and_a_negative():
    embeddings = torch.eye(3)

    assert CircleLoss()(embeddings, torch.zeros(3).long()) == 0
    assert CircleLoss()(embeddings, torch.arange(3)) == 0


# --- Tuplet margin --------------------------------------------------------------------------------


def test_tuplet_margin_by_hand():
    # Positives at 60 degrees, which 10 of slack make 50; the negative at 90.
    terms = losses.tuplet_margin(a_row([0.5], [1.0]), slack=math.radians(10), scale=4.0)

    expected = math.log1p(math.exp(4 * (0 - math.cos(math.radians(50)))))
    assert terms.total.item() == pytest.approx(expected, rel=1e-5)


def test_a_positive_within_the_slack_is_not_pulled_nearer():
    pulled, pushed = (
        losses.tuplet_margin(a_row([1 - math.cos(angle)], [1.0]), slack=0.3).slope[0, 0]
        for angle in (0.5, 0.1)
    )

    assert pulled > 0 > pushed


@pytest.mark.parametrize("rows", [None, 2, 4])
def test_tuplet_margin_is_safe_where_two_are_in_one_direction(rows):
    # The cosine of the first two is rounded to more than 1 where lengths are divided out badly.
    embeddings = torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [1.0, 2.0, 3.001], [0.0, 1.0, 0]])
    embeddings.requires_grad_()
    cost = TupletMarginLoss(rows=rows)(embeddings, torch.tensor([0, 0, 0, 1]))
    _, gradient = with_gradient(cost, embeddings)

    assert cost.isfinite()
    assert gradient.isfinite().all()
    # 64 is the scale: the angle of a unit vector cannot matter more than that.
    assert gradient.abs().max() < 64


def test_tuplet_margin_takes_a_cosine_above_one_for_one():
    terms = losses.tuplet_margin(a_row([-1e-6, 0.0], [1.0]))

    assert terms.total.isfinite()
    assert terms.slope.isfinite().all()


# --- Lifted structures ----------------------------------------------------------------------------


def test_lifted_structure_by_hand():
    # On a line at 0, 1 and 3: (0, 1) has the negatives 3 and 2 away, with margin 2.
    embeddings, labels = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 1])
    cost = LiftedStructureLoss(margin=2.0)(embeddings, labels)

    assert cost.item() == pytest.approx((math.log(math.exp(-1) + math.exp(0)) + 1) ** 2 / 2)


def test_lifted_structure_hinges_on_each_pair():
    # Both ends are so far from all negatives that the pair may stay as it is.
    embeddings = torch.tensor([[0.0], [1.0], [9.0]], requires_grad=True)
    cost, gradient = with_gradient(
        LiftedStructureLoss()(embeddings, torch.tensor([0, 0, 1])), embeddings
    )

    assert cost == 0
    assert gradient.eq(0).all()


@every_height
@pytest.mark.parametrize("distance", [euclidean, squared_euclidean, cosine])
def test_the_gradient_of_a_lifted_structure_is_that_of_small_steps(rows, distance):
    embeddings, labels = a_batch(8)
    loss = LiftedStructureLoss(rows=rows, distance=distance)

    assert torch.autograd.gradcheck(lambda x: loss(x, labels), embeddings)


ONE_WAY = {
    "hardest": {"miner": partial(mining.hardest, positives=1, negatives=2)},
    "easiest": {"miner": mining.easiest},
    "semi-hard": {"miner": mining.semi_hard},
    "multi-similarity": {"miner": mining.multi_similarity_mining},
    "margin": {"miner": partial(additive_margin, margin=0.3), "distance": cosine},
    "signal to noise": {"distance": signal_to_noise},
    "same": {},
}


def one_way(name: str, rows: int | None) -> tuple[LiftedStructureLoss, dict[str, Tensor]]:
    """A loss in which (i, j) is not what (j, i) is, and who is who."""
    _, labels = a_batch()
    chance = torch.rand(10, 10, generator=torch.Generator().manual_seed(1))
    told = {"same": chance < 0.3} if name == "same" else {"labels": labels % 3}
    return LiftedStructureLoss(rows=rows, **ONE_WAY[name]), told


@pytest.mark.parametrize("rows", [3, 99])
@pytest.mark.parametrize("name", ONE_WAY)
def test_a_lifted_structure_need_not_be_the_same_both_ways(name, rows):
    embeddings, _ = a_batch()
    loss, told = one_way(name, rows)

    assert torch.autograd.gradcheck(lambda x: loss(x, **told), embeddings, fast_mode=True)


@pytest.mark.parametrize("rows", [None, 3, 99])
@pytest.mark.parametrize("name", ["hardest", "signal to noise", "same"])
def test_a_lifted_structure_of_one_way_is_that_of_the_loops(name, rows):
    embeddings, _ = a_batch()
    loss, told = one_way(name, rows)
    same = told.get("same")
    d = loss.distance(embeddings, embeddings)
    own = torch.eye(10, dtype=torch.bool)
    same = told["labels"][:, None] == told["labels"] if same is None else same
    pairs = Pairs(d, same & ~own, ~same & ~own)
    pairs = pairs if loss.miner is None else loss.miner(pairs)
    costs = [
        (torch.cat([1 - d[end][pairs.negative[end]] for end in (i, j)]).logsumexp(0) + d[i, j])
        .relu()
        .square()
        for i, j in pairs.positive.nonzero().tolist()
    ]
    expected = torch.stack(costs).mean() / 2

    torch.testing.assert_close(
        with_gradient(loss(embeddings, **told), embeddings), with_gradient(expected, embeddings)
    )


@every_height
@pytest.mark.parametrize("distance", [euclidean, squared_euclidean, cosine])
@pytest.mark.parametrize(
    ("embeddings", "labels"),
    [
        pytest.param([[1.0, 2.0]], [0], id="one picture"),
        pytest.param([[1.0, 2.0], [0.0, 1.0], [3.0, 1.0]], [5, 5, 5], id="one identity"),
        pytest.param([[1.0, 2.0], [0.0, 1.0], [3.0, 1.0]], [0, 1, 2], id="each its own"),
        pytest.param([[1.0, 2.0], [1.0, 2.0], [3.0, 1.0]], [0, 0, 1], id="a duplicate"),
        pytest.param([[1.0, 2.0]] * 4, [0, 0, 1, 1], id="all in one place"),
        pytest.param([[0.0, 0.0]] * 4, [0, 0, 1, 1], id="all zero"),
        pytest.param([[1e9, 0.0], [0.0, 1e9]] * 2, [0, 0, 1, 1], id="huge"),
    ],
)
def test_lifted_structures_are_finite_in_the_corners(embeddings, labels, distance, rows):
    embeddings = torch.tensor(embeddings, requires_grad=True)
    with torch.autograd.set_detect_anomaly(True):
        cost = LiftedStructureLoss(rows=rows, distance=distance)(embeddings, torch.tensor(labels))
        _, gradient = with_gradient(cost + 0 * embeddings.sum(), embeddings)

    assert cost.isfinite()
    assert cost >= 0
    assert gradient.isfinite().all()


@every_height
def test_a_lifted_structure_does_not_hide_a_nan(rows):
    embeddings, labels = a_batch()
    embeddings.data[7, 1] = torch.nan

    assert LiftedStructureLoss(rows=rows)(embeddings, labels).isnan()


@every_height
def test_the_batch_may_be_given_as_its_own_references(rows):
    # As where labels are the answers themselves, or a memory is empty still.
    embeddings, labels = a_batch()
    plain = with_gradient(LiftedStructureLoss(rows=rows)(embeddings, labels), embeddings)
    through = LiftedStructureLoss(rows=rows, references=itself)
    same = labels[:, None] == labels

    torch.testing.assert_close(with_gradient(through(embeddings, labels), embeddings), plain)
    answers = LiftedStructureLoss(rows=rows)(embeddings, same=same)
    torch.testing.assert_close(with_gradient(answers, embeddings), plain)


@every_height
def test_beside_other_references_the_negatives_of_the_anchor_count_alone(rows):
    embeddings, labels = torch.tensor([[0.0]]), torch.tensor([7])
    references, names = torch.tensor([[1.0], [2.0], [1.5]]), torch.tensor([7, 8, 8])
    crowd = math.log(math.exp(1 - 2) + math.exp(1 - 1.5))
    loss = LiftedStructureLoss(rows=rows)

    expected = pytest.approx((crowd + 1) ** 2 / 2)
    assert loss(embeddings, labels, (references, names)).item() == expected
    held = LiftedStructureLoss(rows=rows, references=lambda x, y: References(references, names))
    assert held(embeddings, labels).item() == expected


def test_a_lifted_structure_remembers_nothing_of_a_batch():
    loss, (embeddings, labels) = LiftedStructureLoss(), a_batch()
    pairs = a_row([1.0], [1.0])
    before = loss.terms(pairs).total
    loss(embeddings, labels)

    assert loss.terms(pairs).total == before


def test_a_copy_of_a_lifted_structure_is_its_own():
    loss, batch = LiftedStructureLoss(margin=2.0), a_batch()
    copied = copy.deepcopy(loss)
    loss.margin = 1.0

    assert copied(*batch) == LiftedStructureLoss(margin=2.0)(*batch)
    assert repr(copied) == "LiftedStructureLoss(distance=euclidean, pairing=all_pairs, margin=2.0)"


@pytest.mark.parametrize("pairing", [two_towers, adjacent_triplets])
def test_a_lifted_structure_refuses_pairs_whose_other_ends_it_does_not_see(pairing):
    with pytest.raises(ValueError, match="negatives of both ends of a pair"):
        LiftedStructureLoss(pairing=pairing)


def test_generalised_lifted_by_hand():
    terms = losses.generalised_lifted(a_row([0.5, 1.0], [1.0, 3.0], left_out=[0.0]), margin=1.5)

    far = math.log(math.exp(0.5) + math.exp(1))
    assert terms.total.item() == pytest.approx(far + math.log(math.exp(0.5) + math.exp(-1.5)))


def test_generalised_lifted_is_near_the_hardest_triplet_where_distances_are_large():
    pairs = a_row([10.0, 40.0], [20.0, 90.0])

    assert losses.generalised_lifted(pairs).total.item() == pytest.approx(40 - 20 + 1)
