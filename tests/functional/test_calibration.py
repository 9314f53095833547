import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from siamlearn.functional.accepted import Accepted, accepted
from siamlearn.functional.calibration import (
    calibration_loss,
    cllr,
    cost,
    least_cost,
    log_odds,
    min_cllr,
    pools,
    posterior,
    shifted,
)

# Few values, so that many are equal.
tied = st.lists(st.integers(0, 6), min_size=1, max_size=30)
smooth = st.lists(st.floats(-50, 50), min_size=1, max_size=30)
KINDS = ("genuine", "impostor")


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def test_cllr_by_hand():
    # Each ratio of 3 on the right side costs log2(1 + 1/3), one on the wrong side log2(1 + 3) = 2.
    three = tensor([3.0]).log()

    assert cllr(three, -three).item() == pytest.approx(math.log2(4 / 3))
    assert cllr(-three, three).item() == pytest.approx(2)
    assert cllr(torch.cat([three, -three]), -three).item() == pytest.approx(
        ((math.log2(4 / 3) + 2) / 2 + math.log2(4 / 3)) / 2
    )


def test_ratios_that_say_nothing_cost_one_bit_and_perfect_ones_nothing():
    assert cllr(torch.zeros(3), torch.zeros(7)).item() == pytest.approx(1)
    assert cllr(tensor([torch.inf]), tensor([-torch.inf])).item() == 0
    assert cllr(tensor([1e300]), tensor([-1e300])).item() == 0


def test_certainty_on_the_wrong_side_costs_everything():
    assert cllr(tensor([-torch.inf, 5.0]), tensor([0.0])).item() == torch.inf
    assert cllr(tensor([-1e300]), tensor([0.0])).item() > 1e299


@given(genuine=smooth, impostor=smooth)
def test_swapping_genuine_and_impostor_and_the_sign_leaves_the_cost(genuine, impostor):
    genuine, impostor = tensor(genuine), tensor(impostor)

    torch.testing.assert_close(cllr(-impostor, -genuine), cllr(genuine, impostor))


def test_min_cllr_by_hand():
    # Nearest a genuine pair alone, farthest an impostor pair alone; between them one of each,
    # in the wrong order and so pooled: ratio 1, one bit for half of the pairs.
    assert min_cllr(tensor([1, 3]), tensor([2, 4])).item() == pytest.approx(0.5)
    assert min_cllr(tensor([1, 2]), tensor([3, 4])).item() == 0
    assert min_cllr(tensor([3, 4]), tensor([1, 2])).item() == pytest.approx(1)


def test_ties_never_flatter():
    assert min_cllr(tensor([5, 5]), tensor([5])).item() == pytest.approx(1)
    # Were the tie at 2 broken either way, it would be 0 or 0.5 at best.
    assert min_cllr(tensor([1, 2]), tensor([2, 3])).item() == pytest.approx(0.5)


@given(genuine=tied, impostor=tied)
def test_min_cllr_looks_at_the_order_alone(genuine, impostor):
    genuine, impostor = tensor(genuine), tensor(impostor)

    other = min_cllr((genuine / 3).exp() - 40, (impostor / 3).exp() - 40)

    torch.testing.assert_close(other, min_cllr(genuine, impostor))


@given(genuine=tied, impostor=tied, steps=st.lists(st.floats(0, 9), min_size=7, max_size=7))
def test_no_monotone_calibration_costs_less_than_min_cllr(genuine, impostor, steps):
    genuine, impostor = torch.tensor(genuine), torch.tensor(impostor)
    llr = 20 - tensor(steps).cumsum(0)
    best = min_cllr(genuine.double(), impostor.double())

    assert 0 <= best <= 1 + 1e-12
    assert best <= cllr(llr[genuine], llr[impostor]) + 1e-12


@given(genuine=smooth, impostor=smooth)
def test_the_calibration_loss_is_never_negative_and_none_after_pooling(genuine, impostor):
    genuine, impostor = tensor(genuine), tensor(impostor)
    assert calibration_loss(genuine, impostor) >= -1e-12

    found = pools(accepted(-genuine, -impostor))
    best = [found.llr()[torch.searchsorted(found.farthest, -kind)] for kind in (genuine, impostor)]
    assert calibration_loss(*best).abs() < 1e-9


def test_infinite_ratios_have_a_calibration_loss():
    ratios = tensor([torch.inf, 2.0]), tensor([-torch.inf, -1.0])

    assert calibration_loss(*ratios).item() == pytest.approx(cllr(*ratios).item())
    # A genuine pair lies where else nothing is accepted: it must be counted all the same.
    least = min_cllr(tensor([-torch.inf, 1]), tensor([-2, torch.inf]))
    assert least.item() == pytest.approx(0.5)


@given(genuine=tied, impostor=tied)
def test_pools_are_isotonic_regression(genuine, impostor):
    found = pools(accepted(tensor(genuine), tensor(impostor)))
    distance = [*genuine, *impostor]
    same = [1] * len(genuine) + [0] * len(impostor)
    peer = IsotonicRegression(increasing=False).fit(distance, same)

    share = (found.genuine / (found.genuine + found.impostor))[
        torch.searchsorted(found.farthest, tensor(distance))
    ]

    torch.testing.assert_close(share, torch.from_numpy(peer.predict(distance)).double())


@pytest.mark.parametrize("shape", ["smooth", "one late peak", "far apart"])
def test_pools_of_many_pairs_are_isotonic_regression_too(shape):
    generator = torch.Generator().manual_seed(0)
    genuine = torch.randn(3000, generator=generator).double()
    impostor = torch.randn(5000, generator=generator).double() + 1
    if shape == "one late peak":
        # A long convex stretch that a single point beyond it pools again, piece by piece.
        genuine = torch.cat([genuine, torch.full((9000,), 9.0).double()])
    if shape == "far apart":
        impostor += 50
    found = pools(accepted(genuine, impostor))
    distance = torch.cat([genuine, impostor])
    same = (torch.arange(len(distance)) < len(genuine)).double()
    peer = IsotonicRegression(increasing=False).fit(distance.numpy(), same.numpy())

    share = found.genuine / (found.genuine + found.impostor)
    there = share[torch.searchsorted(found.farthest, distance)]

    torch.testing.assert_close(there, torch.from_numpy(peer.predict(distance.numpy())).double())
    assert found.llr().diff().le(0).all()


def test_thresholds_at_which_nothing_is_added_change_no_pool():
    seen = Accepted(
        tensor([-torch.inf, 1, 2, 3, 4]),
        torch.tensor([0, 2, 2, 2, 2]),
        torch.tensor([0, 0, 0, 0, 3]),
    )

    assert pools(seen).farthest.tolist() == [1, 4]
    assert pools(seen).nearest.tolist() == [1, 4]


@given(genuine=tied, impostor=tied, steps=st.lists(st.floats(0, 9), min_size=7, max_size=7))
def test_costs_read_off_counts_are_those_of_the_pairs(genuine, impostor, steps):
    genuine, impostor = torch.tensor(genuine), torch.tensor(impostor)
    llr = 20 - tensor(steps).cumsum(0)
    seen = accepted(genuine.double(), impostor.double())

    read = cost(seen, llr[seen.threshold.clamp(min=0).long()])

    torch.testing.assert_close(read, cllr(llr[genuine], llr[impostor]))
    torch.testing.assert_close(least_cost(seen), min_cllr(genuine.double(), impostor.double()))


def test_each_resample_has_its_own_cost():
    seen = accepted(tensor([1, 3, 5]), tensor([2, 4, 6]))
    weights = torch.rand(2, 3, 2, 7, generator=torch.Generator().manual_seed(0)).double()
    weights[..., 0] = 0
    right, wrong = (seen.__dict__[k].diff(prepend=torch.zeros(1, dtype=int)) for k in KINDS)
    many = Accepted(
        seen.threshold,
        (weights[:, :, 0] * right).cumsum(-1),
        (weights[:, :, 1] * wrong).cumsum(-1),
    )
    llr = tensor([torch.inf, 3, 2, 1, -1, -2, -torch.inf])

    whole, least = cost(many, llr), least_cost(many)

    assert whole.shape == least.shape == (2, 3)
    for i, j in torch.cartesian_prod(torch.arange(2), torch.arange(3)):
        one = Accepted(seen.threshold, many.genuine[i, j], many.impostor[i, j])
        torch.testing.assert_close(whole[i, j], cost(one, llr))
        torch.testing.assert_close(least[i, j], pools(one).cllr())
        assert least[i, j] <= whole[i, j]


def test_posterior_by_hand():
    nine = tensor([9.0]).log()

    assert posterior(nine).item() == pytest.approx(0.9)
    assert posterior(nine, prior=0.1).item() == pytest.approx(0.5)
    assert posterior(tensor([torch.inf, -torch.inf]), prior=1e-9).tolist() == [1, 0]
    assert 0 < posterior(tensor([-700.0])).item() < 1e-300


@given(
    probability=st.floats(1e-6, 1 - 1e-6),
    one=st.floats(1e-6, 1 - 1e-6),
    other=st.floats(1e-6, 1 - 1e-6),
)
def test_a_prior_shifted_there_and_back_is_where_it_was(probability, one, other):
    there = shifted(tensor([probability]), from_prior=one, to_prior=other)
    back = shifted(there, from_prior=other, to_prior=one)

    assert back.item() == pytest.approx(probability, rel=1e-6)
    # Bayes without logarithms.
    odds = probability / (1 - probability) * other / (1 - other) / (one / (1 - one))
    assert there.item() == pytest.approx(odds / (1 + odds), rel=1e-6)


def test_certainty_stays_certain_under_any_prior():
    assert shifted(tensor([0.0, 1.0]), from_prior=0.5, to_prior=1e-6).tolist() == [0, 1]


@pytest.mark.parametrize("prior", [0.0, 1.0, -1.0, float("nan")])
def test_a_prior_that_decides_beforehand_is_refused(prior):
    with pytest.raises(ValueError, match="a prior is a probability above 0 and below 1"):
        log_odds(prior)


def test_nothing_and_nan_are_refused():
    some, none, unknown = torch.ones(2), torch.ones(0), torch.tensor([torch.nan, 1.0])

    for bits in (cllr, min_cllr, calibration_loss):
        with pytest.raises(ValueError, match="at least one genuine pair, got none"):
            bits(none, some)
        with pytest.raises(ValueError, match="NaN for 1 of the impostor pairs"):
            bits(some, unknown)
