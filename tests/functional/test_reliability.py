import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from siamlearn.functional.reliability import (
    brier,
    equal_mass,
    equal_width,
    expected_calibration_error,
    reliability,
)

predictions = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40)


def split(pairs):
    probability, same = zip(*pairs, strict=True)
    return torch.tensor(probability, dtype=torch.float64), torch.tensor(same)


def test_reliability_by_hand():
    # Below one half: mean 0.2, one of two. Above: mean 0.8, one of one. Errors 0.3 and 0.2.
    probability = torch.tensor([0.1, 0.3, 0.8], dtype=torch.float64)
    same = torch.tensor([False, True, True])

    found = reliability(probability, same, bins=2, edges=equal_width)

    torch.testing.assert_close(found.predicted, torch.tensor([0.2, 0.8]).double())
    assert found.observed.tolist() == [0.5, 1]
    assert found.count.tolist() == [2, 1]
    assert found.error.item() == pytest.approx((2 * 0.3 + 0.2) / 3)
    assert expected_calibration_error(probability, same, bins=2).item() == found.error.item()


@given(pairs=predictions, bins=st.integers(1, 12), edges=st.sampled_from([equal_mass, equal_width]))
def test_bins_hold_every_pair_once_and_in_order(pairs, bins, edges):
    probability, same = split(pairs)

    found = reliability(probability, same, bins=bins, edges=edges)

    assert found.count.sum() == len(pairs)
    assert len(found.count) <= bins
    assert found.count.min() > 0
    assert found.predicted.diff().ge(0).all()
    torch.testing.assert_close((found.share * found.predicted).sum(), probability.mean())
    torch.testing.assert_close((found.share * found.observed).sum(), same.double().mean())
    assert 0 <= found.error <= 1


def test_bins_of_equal_mass_hold_equally_many():
    probability = torch.rand(1000, generator=torch.Generator().manual_seed(0)).double()

    assert reliability(probability, probability > 0.5, bins=10).count.tolist() == [100] * 10
    # Where most are certain, bins of one width would leave all but two of them empty.
    certain = torch.cat([torch.zeros(900).double(), probability[:100]])
    assert reliability(certain, certain > 0.5, bins=10).count.tolist() == [900, 100]


def test_it_is_the_curve_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    probability = torch.rand(500, generator=generator).double()
    same = torch.rand(500, generator=generator) < probability

    found = reliability(probability, same, bins=10, edges=equal_width)
    observed, predicted = calibration_curve(
        same.numpy(), probability.numpy(), n_bins=10, strategy="uniform"
    )

    torch.testing.assert_close(found.observed, torch.from_numpy(observed))
    torch.testing.assert_close(found.predicted, torch.from_numpy(predicted))


@given(pairs=predictions)
def test_brier_is_that_of_scikit_learn(pairs):
    probability, same = split(pairs)
    peer = brier_score_loss(same.numpy().astype(int), probability.numpy(), pos_label=1)

    assert brier(probability, same).item() == pytest.approx(peer)


def test_probabilities_that_are_true_have_little_error():
    generator = torch.Generator().manual_seed(0)
    probability = torch.rand(40_000, generator=generator).double()
    same = torch.rand(40_000, generator=generator) < probability

    assert expected_calibration_error(probability, same) < 0.015
    assert expected_calibration_error(probability.square(), same) > 0.1


def test_with_their_prior_probabilities_are_right_among_many_impostors_too():
    # True for as many genuine as impostor pairs, then 50 impostors to each genuine pair.
    generator = torch.Generator().manual_seed(0)
    genuine = torch.randn(2_000, generator=generator).double() + 1
    impostor = torch.randn(100_000, generator=generator).double() - 1
    probability = (2 * torch.cat([genuine, impostor])).sigmoid()
    same = torch.arange(len(probability)) < len(genuine)

    assert expected_calibration_error(probability, same, prior=0.5) < 0.02
    assert expected_calibration_error(probability, same) > 0.1


def test_what_is_no_probability_is_refused():
    same = torch.tensor([True, False])
    for wrong in ([0.5, 1.5], [-0.1, 0.5], [torch.nan, 0.5]):
        with pytest.raises(ValueError, match="must lie from 0 to 1"):
            reliability(torch.tensor(wrong), same)
        with pytest.raises(ValueError, match="must lie from 0 to 1"):
            brier(torch.tensor(wrong), same)
    with pytest.raises(ValueError, match="got 0 pairs"):
        reliability(torch.empty(0), torch.empty(0).bool())


def test_a_prior_needs_both_kinds():
    with pytest.raises(ValueError, match="got 2 genuine of 2 pairs"):
        reliability(torch.tensor([0.5, 0.5]), torch.tensor([True, True]), prior=0.5)
