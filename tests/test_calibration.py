import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from siamlearn.calibration import SLOPE, Calibration, logistic, monotone
from siamlearn.embeddings import Embeddings
from siamlearn.functional.accepted import accepted
from siamlearn.functional.calibration import cllr, min_cllr
from siamlearn.functional.reliability import reliability

CURVES = pytest.mark.parametrize("curve", [logistic, monotone], ids=lambda curve: curve.__name__)
distances = st.lists(st.integers(0, 9), min_size=1, max_size=30)


def people(count, pictures=4, *, spread=1.0, seed=0):
    """Embeddings of people far apart, with pictures that scatter around them."""
    generator = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(count, 8, generator=generator)
    labels = torch.arange(count * pictures) // pictures
    noise = spread * torch.randn(len(labels), 8, generator=generator)
    identities = tuple(f"s{i}" for i in range(count))
    return Embeddings(
        centres[labels] + noise, labels, identities, tuple(f"{i}.png" for i in range(len(labels)))
    )


def gaussian(pairs, seed=0):
    """Distances around 2 and around 5, both with variance 1.5: the true ratio is 2 (3.5 - d)."""
    generator = torch.Generator().manual_seed(seed)
    near, far = (torch.randn(n, generator=generator).double() for n in pairs)
    return 2 + 1.5**0.5 * near, 5 + 1.5**0.5 * far


def test_between_and_beyond_its_distances_by_hand():
    calibration = Calibration((1.0, 3.0, 4.0), (2.0, 0.0, -6.0))

    asked = torch.tensor([-torch.inf, 0, 1, 2, 3, 3.5, 4, 99, torch.inf])
    assert calibration.llr(asked).tolist() == [2, 2, 2, 1, 0, -3, -6, -6, -6]
    assert calibration.llr(2.0) == 1
    assert calibration.probability(3.0) == 0.5
    assert calibration.probability(1.0) == pytest.approx(math.e**2 / (1 + math.e**2))
    # A thousand to one against, before the pictures were seen.
    assert calibration.probability(1.0, prior=0.001) == pytest.approx(
        math.e**2 * 0.001 / (math.e**2 * 0.001 + 0.999)
    )


def test_a_number_and_a_tensor_of_any_shape_get_the_same_answer():
    calibration = Calibration((0.0, 2.0), (3.0, -3.0))
    block = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)).mT

    each = [[calibration.probability(d, prior=0.2) for d in row] for row in block.tolist()]
    assert calibration.probability(block, prior=0.2).tolist() == each
    assert calibration.llr(block).dtype == torch.float64


def test_not_even_rounding_makes_it_rise():
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        knots, ratios = torch.randn(2, 4, generator=generator, dtype=torch.float64).sort().values
        calibration = Calibration(tuple(knots.tolist()), tuple((-ratios).tolist()))

        beside = [knots.nextafter(knots + way) for way in (-1, 0, 1)]

        assert calibration.llr(torch.cat(beside).sort().values).diff().le(0).all()


@CURVES
@given(genuine=distances, impostor=distances, count=st.integers(1, 50))
def test_probability_never_rises_with_the_distance_and_is_never_certain(
    curve, genuine, impostor, count
):
    names = [str(i) for i in range(count)]
    near, far = torch.tensor(genuine).double(), torch.tensor(impostor).double()
    calibration = Calibration.from_distances(near, far, people=names, curve=curve)

    asked = torch.linspace(-1, 10, 200)
    probability = calibration.probability(asked)

    assert calibration.llr(asked).diff().le(0).all()
    # The last digit of an exponential depends on its place in the tensor, on some processors.
    assert probability.diff().le(1e-15 * probability[1:]).all()
    assert probability.gt(0).all()
    assert probability.lt(1).all()
    best = min_cllr(near, far)
    assert cllr(calibration.llr(near), calibration.llr(far)) >= best - 1e-12


@CURVES
def test_with_many_pairs_the_true_ratio_is_found(curve):
    near, far = gaussian((40_000, 60_000))
    names = [str(i) for i in range(2_000)]

    calibration = Calibration.from_distances(near, far, people=names, curve=curve)

    asked = torch.linspace(1, 6, 51).double()
    # The slope of 2 has a standard error of about 0.01; isotonic steps are coarser.
    within = 0.1 if curve is logistic else 0.45
    assert (calibration.llr(asked) - 2 * (3.5 - asked)).abs().max() < within


@CURVES
def test_no_prior_is_built_in(curve):
    # Every impostor pair ten times over: the shares of each kind at each distance stay.
    near, far = gaussian((300, 300))
    names = [str(i) for i in range(20)]

    fitted = [
        Calibration.from_distances(near, impostor, people=names, curve=curve)
        for impostor in (far, far.repeat(10))
    ]

    asked = torch.linspace(0, 7, 20)
    torch.testing.assert_close(fitted[1].llr(asked), fitted[0].llr(asked))


@CURVES
@given(scale=st.sampled_from([1e-6, 0.25, 1e5]), shift=st.sampled_from([-3.0, 0.0, 10.0]))
def test_the_unit_of_the_distance_does_not_matter(curve, scale, shift):
    near, far = gaussian((50, 70))
    names = [str(i) for i in range(9)]
    here = Calibration.from_distances(near, far, people=names, curve=curve)
    there = Calibration.from_distances(
        scale * (near + shift), scale * (far + shift), people=names, curve=curve
    )

    asked = torch.linspace(0, 7, 20).double()
    torch.testing.assert_close(
        there.llr(scale * (asked + shift)), here.llr(asked), rtol=1e-5, atol=1e-5
    )


def test_it_is_the_weighted_ridge_regression_of_scikit_learn():
    near, far = gaussian((80, 200))
    both = torch.cat([near, far])
    same = torch.arange(280) < 80
    weight = torch.where(same, 0.5 / 80, 0.5 / 200)
    mean = (weight * both).sum()
    unit = ((both - mean) / (weight * (both - mean).square()).sum().sqrt())[:, None]
    count = 7
    # Its cost is C times the weighted sum plus half the squared slope.
    peer = LogisticRegression(C=count * SLOPE**2, tol=1e-12, max_iter=10_000)
    peer.fit(unit.numpy(), same.numpy(), sample_weight=weight.numpy())

    calibration = Calibration.from_distances(near, far, people=[str(i) for i in range(count)])

    expected = torch.from_numpy(peer.decision_function(unit.numpy()))
    torch.testing.assert_close(calibration.llr(both), expected, rtol=1e-5, atol=1e-5)


@CURVES
def test_more_people_support_more_certainty_but_never_infinite(curve):
    near, far = torch.zeros(100), torch.ones(100)
    surest = [
        Calibration.from_distances(
            near, far, people=[str(i) for i in range(count)], curve=curve
        ).llr(0.0)
        for count in (2, 10, 100)
    ]

    assert surest[0] < surest[1] < surest[2] < 10
    # Ten people who never were confused do not show that one pair in a thousand would not be.
    assert surest[1] < math.log(200)


@CURVES
def test_a_scorer_that_says_nothing_gets_a_ratio_of_one(curve):
    constant = Calibration.from_distances(torch.ones(5), torch.ones(9), curve=curve)
    assert constant.llr(torch.tensor([0.0, 1.0, 2.0])).tolist() == [0, 0, 0]

    # Genuine pairs are farther: still nothing that speaks for one person may follow.
    wrong = Calibration.from_distances(torch.ones(5), torch.zeros(9), curve=curve)
    assert wrong.llr(torch.tensor([0.0, 1.0])).abs().max() < 1e-12


def test_on_other_people_probabilities_mean_what_they_say():
    calibration = Calibration.fit(people(60, spread=2.0, seed=1))
    tested = people(60, spread=2.0, seed=2)
    apart = torch.cdist(tested.vectors, tested.vectors)
    one, other = torch.triu_indices(len(tested), len(tested), 1)
    same = tested.labels[one] == tested.labels[other]
    distance = apart[one, other]

    found = reliability(calibration.probability(distance), same, prior=0.5, bins=10)
    cost = cllr(calibration.llr(distance[same]), calibration.llr(distance[~same]))

    assert found.error < 0.05
    assert cost < min_cllr(distance[same], distance[~same]) + 0.05


def test_it_remembers_what_it_was_fitted_on_without_names():
    calibration = Calibration.fit(people(5, pictures=3), curve=monotone)

    assert calibration.seen(["s9", "s3", "s0"]) == ("s3", "s0")
    assert "s3" not in json.dumps(calibration.to_dict())
    assert str(calibration) == "monotone, fitted on 5 people (15 genuine, 90 impostor pairs)"


@CURVES
def test_to_dict_and_back_through_json_is_the_same(curve):
    calibration = Calibration.fit(people(5), curve=curve)
    values = json.loads(json.dumps(calibration.to_dict()))

    assert Calibration.from_dict(values) == calibration
    with pytest.raises(ValueError, match="must be of format 1, got 2"):
        Calibration.from_dict({**values, "format": 2})
    with pytest.raises(ValueError, match=r"no whole calibration: .*llrs"):
        Calibration.from_dict({k: v for k, v in values.items() if k != "llrs"})
    with pytest.raises(ValueError, match=r"no whole calibration: .*colour"):
        Calibration.from_dict({**values, "colour": 1})


def test_counts_of_a_histogram_give_what_their_distances_give():
    near, far = torch.tensor([1.0, 1.0, 2.0]), torch.tensor([2.0, 3.0])
    listed = Calibration.from_distances(near, far)

    assert Calibration.of(accepted(near.double(), far.double())) == listed


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(ValueError, match="0 of 0 impostor pairs; take at least two people"):
        Calibration.fit(people(1))
    with pytest.raises(ValueError, match="0 of 0 genuine pairs"):
        Calibration.fit(people(5, pictures=1))
    with pytest.raises(ValueError, match="1 of 2 genuine pairs"):
        Calibration.from_distances(torch.tensor([1.0, torch.nan]), torch.ones(2))
    with pytest.raises(TypeError, match="fitted on Embeddings, such as"):
        Calibration.fit(torch.ones(3))


@pytest.mark.parametrize(
    ("near", "ratio"),
    [
        ((), ()),
        ((1.0,), (1.0, 0.0)),
        ((1.0, 1.0), (1.0, 0.0)),
        ((1.0, 2.0), (0.0, 1.0)),
        ((1.0, 2.0), (math.inf, 1.0)),
        ((1.0, math.nan), (2.0, 1.0)),
    ],
)
def test_what_is_no_falling_curve_is_refused(near, ratio):
    with pytest.raises(ValueError, match="finite, ascending distances to as many ratios"):
        Calibration(near, ratio)
