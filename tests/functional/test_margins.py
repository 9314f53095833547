"""Margins by hand, and where their formulas are delicate; what they share is in the laws."""

import math
from dataclasses import replace

import pytest
import torch

from siamlearn.functional.distances import cosine
from siamlearn.functional.margins import (
    adaptive_margin,
    additive_margin,
    angular_margin,
    combined_margin,
    curricular_margin,
    hard_negatives,
    magnitude_cost,
    magnitude_margin,
    multiplicative_margin,
)
from siamlearn.functional.pairs import Pairs, between

MARGINS = {
    "additive": additive_margin,
    "angular": angular_margin,
    "combined": combined_margin,
    "multiplied": lambda pairs: combined_margin(pairs, multiplicative=1.5, angular=0.0),
    "multiplicative": multiplicative_margin,
    "curricular": lambda pairs: curricular_margin(pairs, progress=torch.tensor(0.3)),
    "adaptive": lambda pairs: adaptive_margin(pairs, mean=torch.ones(()), deviation=torch.ones(())),
    "magnitude": lambda pairs: magnitude_margin(pairs, shortest=0.5, longest=2.0),
}
every_margin = pytest.mark.parametrize("margin", MARGINS.values(), ids=MARGINS)
every_angle = torch.linspace(0, math.pi, 2_001, dtype=torch.float64)


def positives(angles: torch.Tensor, length: float = 1.0) -> Pairs:
    """One positive a row, at these angles."""
    same = torch.ones(len(angles), 1, dtype=torch.bool)
    far = 1 - angles.cos()
    return Pairs(far[:, None], same, ~same, length=torch.full_like(far, length))


def similarity(pairs: Pairs) -> torch.Tensor:
    return 1 - pairs.distance[:, 0]


def degrees(*angles: float) -> torch.Tensor:
    return torch.tensor(angles, dtype=torch.float64).deg2rad()


@every_margin
def test_a_margin_moves_positives_away_and_nothing_else(margin):
    embeddings = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(30) % 7
    pairs = between(embeddings, labels, embeddings, labels, distance=cosine, own=torch.arange(30))
    moved = margin(pairs)

    still = ~pairs.positive
    if margin is MARGINS["curricular"]:
        still = still & ~hard_negatives(pairs, margin=0.5)
    assert pairs.positive.sum() > 50
    assert (moved.distance > pairs.distance)[pairs.positive].all()
    assert moved.distance[still].equal(pairs.distance[still])
    assert moved.positive.equal(pairs.positive)
    assert moved.negative.equal(pairs.negative)


@every_margin
@pytest.mark.parametrize("length", [0.6, 1.0, 1.9])
def test_farther_stays_farther_at_every_angle(margin, length):
    # Else, beyond some angle, embeddings would be pushed away from their own class.
    moved = similarity(margin(positives(every_angle, length)))

    assert (moved.diff() < 1e-12).all()
    assert moved[0] - moved[-1] > 1.5


@every_margin
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_positives_in_one_place_or_opposite_have_a_finite_gradient_that_is_not_zero(margin, dtype):
    distance = torch.tensor([[0.0], [2.0]], dtype=dtype, requires_grad=True)
    same = torch.ones(2, 1, dtype=torch.bool)
    with torch.autograd.set_detect_anomaly(True):
        moved = margin(Pairs(distance, same, ~same, length=torch.ones(2))).distance
        moved.sum().backward()

    assert distance.grad.isfinite().all()
    assert distance.grad[1] > 0.1
    # Where the angle is only multiplied, the tip is flat, by the angle and by the cosine.
    assert distance.grad[0] > 0.1 or margin is MARGINS["multiplied"]


def test_angular_margin_is_the_cosine_of_the_angle_and_the_margin():
    angles = degrees(0, 10, 90, 149)

    moved = similarity(angular_margin(positives(angles), margin=math.radians(30)))

    torch.testing.assert_close(moved, degrees(30, 40, 120, 179).cos())


def test_angular_margin_falls_on_beyond_half_a_turn():
    moved = similarity(angular_margin(positives(degrees(151, 180)), margin=math.pi / 6))

    torch.testing.assert_close(moved, degrees(151, 180).cos() - math.pi / 12)


@pytest.mark.parametrize("angle", [1e-3, 0.02, 1.0, 2.6])
def test_the_gradient_of_the_angular_margin_is_that_of_the_cosine(angle):
    # By the angle, it is -sin(θ + m): also for a picture that is nearly in the place of its class.
    at = torch.tensor([angle], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(similarity(angular_margin(positives(at))).sum(), at)

    assert slope.item() == pytest.approx(-math.sin(angle + 0.5), rel=1e-4)


def test_the_steepest_place_is_as_steep_as_rounding_can_tell():
    # Below the angle that float32 can tell from 0 the derivative by the cosine no longer grows;
    # by the angle it thus goes to 0 with the angle, as at the tip of any cone.
    near = torch.tensor([[1e-7], [1e-8], [0.0]], requires_grad=True)
    same = torch.ones(3, 1, dtype=torch.bool)
    moved = angular_margin(Pairs(near, same, ~same)).distance
    (slope,) = torch.autograd.grad(moved.sum(), near)

    assert moved[2].item() == pytest.approx(1 - math.cos(0.5))
    steepest = 2 * math.sin(0.5) / math.sqrt(torch.finfo(torch.float32).eps) + math.cos(0.5)
    assert slope[1:].flatten().tolist() == pytest.approx([steepest, steepest])
    assert 1_000 < slope[0] < steepest


def test_no_margin_changes_no_digit():
    pairs = positives(every_angle[1:-1])

    for same in (
        additive_margin(pairs, margin=0.0),
        angular_margin(pairs, margin=0.0),
    ):
        assert same.distance.equal(pairs.distance)
    torch.testing.assert_close(multiplicative_margin(pairs, margin=1).distance, pairs.distance)


def test_combined_margin_by_hand():
    moved = combined_margin(
        positives(degrees(40)), multiplicative=1.5, angular=math.radians(30), additive=0.25
    )

    assert similarity(moved).item() == pytest.approx(-0.25)  # of 90 degrees


def test_combined_margin_of_one_kind_is_that_margin():
    pairs = positives(every_angle)

    torch.testing.assert_close(
        combined_margin(pairs, angular=0.5, additive=0.0).distance,
        angular_margin(pairs, margin=0.5).distance,
    )
    torch.testing.assert_close(
        combined_margin(pairs, angular=0.0, additive=0.3).distance,
        additive_margin(pairs, margin=0.3).distance,
    )


def test_multiplicative_margin_by_hand():
    # m = 4: up to 45° the cosine of 4θ, then minus it less 2, then it less 4, then minus it less 6.
    moved = multiplicative_margin(positives(degrees(0, 15, 60, 120, 180)), margin=4)

    expected = torch.tensor([1, 0.5, 0.5 - 2, -0.5 - 4, -1 - 6], dtype=torch.float64)
    torch.testing.assert_close(similarity(moved), expected)


def test_annealing_blends_the_multiplied_angle_with_the_plain_one():
    moved = multiplicative_margin(positives(degrees(60)), margin=2, annealing=3.0)

    assert similarity(moved).item() == pytest.approx((3 * 0.5 - 0.5) / 4)


def test_curricular_margin_by_hand():
    # At 60°, with a margin of 30°, the class counts as 90° away: a rival at 80° is hard, one at
    # 120° is not.
    cosines = degrees(60, 80, 120).cos()
    same = torch.tensor([[True, False, False]])
    pairs = Pairs(1 - cosines[None], same, ~same)

    assert hard_negatives(pairs, margin=math.pi / 6).tolist() == [[False, True, False]]
    moved = curricular_margin(pairs, progress=torch.tensor(0.25), margin=math.pi / 6)
    hard = cosines[1] * (0.25 + cosines[1])
    torch.testing.assert_close(1 - moved.distance[0], torch.stack([0 * hard, hard, cosines[2]]))


def adaptive(pairs: Pairs) -> torch.Tensor:
    statistics = {"mean": torch.tensor(20.0), "deviation": torch.tensor(3.999)}
    return similarity(adaptive_margin(pairs, margin=0.5, concentration=0.4, **statistics))


def test_adaptive_margin_by_hand():
    angle, cos = degrees(70), degrees(70).cos()

    # Of mean length: a cosine of m. One h-th deviations shorter or longer, or more: -1 and 1.
    torch.testing.assert_close(adaptive(positives(angle, 20.0)), cos - 0.5)
    torch.testing.assert_close(adaptive(positives(angle, 10.0)), (angle + 0.5).cos())
    torch.testing.assert_close(adaptive(positives(angle, 2.0)), (angle + 0.5).cos())
    torch.testing.assert_close(adaptive(positives(angle, 99.0)), (angle - 0.5).cos() - 1)
    torch.testing.assert_close(
        adaptive(positives(angle, 25.0)), (angle - 0.25).cos() - 0.75, rtol=1e-6, atol=1e-6
    )


def test_adaptive_margin_of_a_good_picture_is_not_bent_far_from_its_class():
    # θ - m never passes π: the straight line beyond is not for it.
    angle = degrees(157.5, 180)

    torch.testing.assert_close(adaptive(positives(angle, 99.0)), (angle - 0.5).cos() - 1)


def test_adaptive_margin_does_not_turn_past_the_class():
    torch.testing.assert_close(
        adaptive(positives(degrees(0, 20), 99.0)), torch.zeros(2, dtype=torch.float64)
    )


def test_lengths_learn_nothing_from_the_adaptive_margin():
    pairs = positives(degrees(70))
    length = torch.tensor([15.0], requires_grad=True)
    distance = pairs.distance.requires_grad_()

    assert adaptive(replace(pairs, distance=distance, length=length)).requires_grad
    assert not adaptive(replace(pairs, distance=distance.detach(), length=length)).requires_grad


@pytest.mark.parametrize(
    ("length", "margin"), [(1, 0.3), (5, 0.3), (10, 0.5), (15, 0.7), (99, 0.7)]
)
def test_magnitude_margin_by_hand(length, margin):
    moved = magnitude_margin(
        positives(degrees(70), length), lowest=0.3, highest=0.7, shortest=5, longest=15
    )

    torch.testing.assert_close(similarity(moved), (degrees(70) + margin).cos())


def test_long_embeddings_cost_less_up_to_the_longest():
    length = torch.tensor([0.0, 1.0, 5.0, 10.0, 20.0, 30.0], requires_grad=True)
    cost = magnitude_cost(length, shortest=5.0, longest=20.0)
    (slope,) = torch.autograd.grad(cost.sum(), length)

    assert cost[2:5].tolist() == pytest.approx([1 / 5 + 5 / 400, 1 / 10 + 10 / 400, 2 / 20])
    assert cost[5] == cost[4]
    assert (slope[:4] < 0).all()
    assert slope[0] == slope[1]
    assert slope[4:].tolist() == pytest.approx([0.0, 0.0], abs=1e-8)
