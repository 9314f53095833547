import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics

from siamlearn.functional.accepted import accepted
from siamlearn.functional.verification import (
    accuracy_at,
    average_precision,
    best_threshold,
    d_prime,
    equal_error_rate,
    fnmr_at_fmr,
    partial_auc,
    precision_recall_at,
    rates,
    rates_at,
    resolves,
    roc_auc,
    threshold_at_fmr,
)

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def drawn(seed: int, pairs: int, levels: int, shift: float = 0.0) -> torch.Tensor:
    """Distances on a grid of so many levels: few levels, many ties."""
    generator = torch.Generator().manual_seed(seed)
    return ((torch.rand(pairs, generator=generator) + shift) * levels).round() / levels


@st.composite
def distances(draw):
    seed, levels = draw(st.integers(0, 2**16)), draw(st.sampled_from([1, 2, 7, 100_000]))
    genuine = drawn(seed, draw(st.integers(1, 60)), levels)
    shift = draw(st.sampled_from([-2.0, 0.0, 0.3, 2.0]))
    return genuine, drawn(seed + 1, draw(st.integers(1, 60)), levels, shift)


def as_sklearn(genuine: torch.Tensor, impostor: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    truth = np.r_[np.ones(len(genuine)), np.zeros(len(impostor))]
    return truth, -torch.cat([genuine, impostor]).numpy().astype(np.float64)


# --- By hand --------------------------------------------------------------------------------------


def test_rates_by_hand():
    curve = rates(torch.tensor([0.1, 0.3, 0.3, 0.5]), torch.tensor([0.9, 0.3]))

    assert curve.threshold.tolist() == pytest.approx([-torch.inf, 0.1, 0.3, 0.5, 0.9])
    assert curve.fmr.tolist() == [0, 0, 0.5, 0.5, 1]
    assert curve.fnmr.tolist() == [1, 0.75, 0.25, 0, 0]
    assert curve.balanced_accuracy.tolist() == [0.5, 0.625, 0.625, 0.75, 0.5]


def test_a_perfect_distance_by_hand():
    genuine, impostor = torch.tensor([0.1, 0.2]), torch.tensor([0.6, 0.9])

    assert roc_auc(genuine, impostor) == 1
    assert average_precision(genuine, impostor) == 1
    for rate_and_threshold, best in (equal_error_rate, 0), (best_threshold, 1):
        rate, threshold = rate_and_threshold(genuine, impostor)
        assert rate == best
        assert threshold.item() == pytest.approx(0.4)


@given(level=st.sampled_from([0.0, 0.5, 1e-30, 1e30]), m=st.integers(1, 40), n=st.integers(1, 40))
def test_a_constant_scorer_is_at_chance(level, m, n):
    genuine, impostor = torch.full((m,), level), torch.full((n,), level)

    assert roc_auc(genuine, impostor) == 0.5
    assert equal_error_rate(genuine, impostor)[0] == 0.5
    accuracy, threshold = best_threshold(genuine, impostor)
    assert accuracy == 0.5
    assert threshold == level


def test_equal_error_rate_by_hand():
    # One of four genuine pairs is beyond 0.5, and one of four impostors within it.
    genuine, impostor = torch.tensor([0.1, 0.2, 0.3, 0.8]), torch.tensor([0.4, 0.7, 0.9, 1.0])
    rate, threshold = equal_error_rate(genuine, impostor)

    assert rate == 0.25
    assert threshold.item() == pytest.approx(0.55)


def test_threshold_at_fmr_by_hand():
    impostor = torch.arange(100.0)

    assert threshold_at_fmr(impostor, 0.03).item() == 2.5  # 0, 1 and 2 are accepted
    assert threshold_at_fmr(impostor, 0.0399).item() == 2.5
    assert threshold_at_fmr(impostor, 0.04).item() == 3.5
    assert threshold_at_fmr(impostor, 0.29).item() == 28.5  # though 0.29 * 100 is below 29
    assert fnmr_at_fmr(torch.tensor([0.0, 2.6, 5.0, 1.0]), impostor, 0.03) == 0.5


def test_tied_impostors_are_accepted_together_or_not_at_all():
    impostor = torch.tensor([5.0] * 50 + [6.0] * 50)

    assert threshold_at_fmr(impostor, 0.5) == 5.5
    nobody = threshold_at_fmr(impostor, 0.49)
    assert nobody < 5
    assert nobody.isfinite()
    assert rates_at(impostor, impostor, nobody)[0] == 0


def test_d_prime_by_hand():
    assert d_prime(torch.tensor([0.0, 2.0]), torch.tensor([3.0, 7.0])).item() == pytest.approx(
        (5 - 1) / ((1 + 4) / 2) ** 0.5
    )


# --- Laws -----------------------------------------------------------------------------------------


@given(pairs=distances())
def test_rates_are_what_counting_says(pairs):
    genuine, impostor = pairs
    curve = rates(genuine, impostor)

    for threshold, fmr, fnmr in zip(curve.threshold, curve.fmr, curve.fnmr, strict=True):
        assert fmr == (impostor <= threshold).double().mean()
        assert fnmr == (genuine > threshold).double().mean()


@given(pairs=distances())
def test_fmr_rises_and_fnmr_falls_with_the_threshold(pairs):
    curve = rates(*pairs)

    assert (curve.threshold[1:] > curve.threshold[:-1]).all()
    assert (curve.fmr.diff() >= 0).all()
    assert (curve.fnmr.diff() <= 0).all()
    assert (curve.fmr.diff() - curve.fnmr.diff() > 0).all()
    assert (curve.fmr[0], curve.fnmr[0], curve.fmr[-1], curve.fnmr[-1]) == (0, 1, 1, 0)


@given(pairs=distances())
def test_swapping_genuine_and_impostor_swaps_the_rates(pairs):
    genuine, impostor = pairs
    curve, swapped = rates(genuine, impostor), rates(-impostor, -genuine)

    assert swapped.fmr.equal(curve.fnmr.flip(0))
    assert swapped.fnmr.equal(curve.fmr.flip(0))
    assert roc_auc(-impostor, -genuine) == roc_auc(genuine, impostor)
    assert best_threshold(-impostor, -genuine)[0] == best_threshold(genuine, impostor)[0]
    torch.testing.assert_close(
        equal_error_rate(-impostor, -genuine)[0], equal_error_rate(genuine, impostor)[0]
    )


@given(pairs=distances())
def test_swapping_the_roles_alone_mirrors_the_area(pairs):
    genuine, impostor = pairs

    assert roc_auc(genuine, impostor) + roc_auc(impostor, genuine) == pytest.approx(1, abs=1e-15)


@given(pairs=distances(), seed=st.integers(0, 99))
def test_only_the_order_of_distances_matters(pairs, seed):
    genuine, impostor = pairs
    # Doubling, a shift of this grid in float64 and a cube keep order and ties exactly.
    for stretch in (lambda d: 2 * d, lambda d: d.double() + 8, lambda d: d.double() ** 3):
        stretched = stretch(genuine), stretch(impostor)
        for one, other in zip(
            (rates(*pairs).fmr, roc_auc(*pairs), equal_error_rate(*pairs)[0]),
            (rates(*stretched).fmr, roc_auc(*stretched), equal_error_rate(*stretched)[0]),
            strict=True,
        ):
            assert one.equal(other)
        assert average_precision(*pairs) == average_precision(*stretched)
        assert best_threshold(*pairs)[0] == best_threshold(*stretched)[0]


@given(pairs=distances(), seed=st.integers(0, 99))
def test_order_of_the_pairs_does_not_matter(pairs, seed):
    generator = torch.Generator().manual_seed(seed)
    mixed = [kind[torch.randperm(len(kind), generator=generator)] for kind in pairs]

    assert rates(*mixed).fnmr.equal(rates(*pairs).fnmr)
    assert roc_auc(*mixed) == roc_auc(*pairs)


@given(pairs=distances())
def test_area_is_the_share_of_comparisons_won(pairs):
    genuine, impostor = pairs
    won = (genuine[:, None] < impostor).double() + (genuine[:, None] == impostor) / 2

    assert roc_auc(genuine, impostor).item() == pytest.approx(won.mean().item(), abs=1e-12)


@given(pairs=distances())
def test_equal_error_rate_lies_between_the_rates_of_neighbouring_thresholds(pairs):
    curve = rates(*pairs)
    rate, threshold = equal_error_rate(*pairs)
    fmr, fnmr = rates_at(*pairs, threshold)

    assert threshold.isfinite()
    assert torch.maximum(curve.fmr, curve.fnmr).min() >= rate - 1e-12
    assert torch.minimum(curve.fmr, curve.fnmr).max() <= rate + 1e-12
    assert (fmr - fnmr).abs() == (curve.fmr - curve.fnmr).abs()[1:].min()


@given(pairs=distances())
def test_no_threshold_is_better_than_the_best(pairs):
    accuracy, threshold = best_threshold(*pairs)
    fmr, fnmr = rates_at(*pairs, threshold)

    assert accuracy.item() == pytest.approx(rates(*pairs).balanced_accuracy.max().item())
    assert 1 - (fmr + fnmr).item() / 2 == pytest.approx(accuracy.item())


@given(pairs=distances(), dtype=st.sampled_from(DTYPES), fmr=st.floats(0.05, 0.999))
def test_thresholds_give_the_same_rates_when_applied_again(pairs, dtype, fmr):
    genuine, impostor = (kind.to(dtype) for kind in pairs)
    assume(fmr * len(impostor) >= 3)
    threshold = threshold_at_fmr(impostor, fmr)
    curve = rates(genuine, impostor)

    assert threshold.dtype == dtype
    # As a tensor and as a number, as it is kept in a file.
    for again in (threshold, threshold.item()):
        seen_fmr, seen_fnmr = rates_at(genuine, impostor, again)
        assert seen_fmr <= fmr
        assert seen_fmr == curve.fmr[curve.fmr <= fmr].max()
        assert seen_fnmr == fnmr_at_fmr(genuine, impostor, fmr)


@every_dtype
def test_a_threshold_between_neighbouring_floats_does_not_round_to_the_upper(dtype):
    two = torch.tensor(2.0, dtype=dtype)
    one = torch.ones(5, dtype=dtype)
    above = one.nextafter(two)
    # Halfway rounds to the even one of the two floats: to the lower first, then to the upper.
    for low, high in ((one, above), (above, above.nextafter(two))):
        assert best_threshold(low, high)[0] == 1
        for threshold in (best_threshold(low, high)[1], equal_error_rate(low, high)[1]):
            assert rates_at(low, high, threshold) == (0, 0)


@given(pairs=distances())
def test_thresholds_lie_midway_between_neighbouring_distances(pairs):
    seen = rates(*pairs).threshold
    for threshold in (equal_error_rate(*pairs)[1], best_threshold(*pairs)[1]):
        below, above = seen[seen <= threshold], seen[seen > threshold]
        if len(above):
            assert threshold.item() == pytest.approx((below[-1] + above[0]).item() / 2)
        else:
            assert threshold == seen[-1]


# --- scikit-learn ---------------------------------------------------------------------------------


@given(pairs=distances())
def test_rates_are_the_roc_curve_of_scikit_learn(pairs):
    false, true, thresholds = metrics.roc_curve(*as_sklearn(*pairs), drop_intermediate=False)
    curve = rates(*pairs)

    np.testing.assert_array_equal(curve.threshold[1:], -thresholds[1:])
    np.testing.assert_allclose(curve.fmr, false, atol=1e-15)
    np.testing.assert_allclose(curve.fnmr, 1 - true, atol=1e-15)


@given(pairs=distances())
def test_rates_hold_the_det_curve_of_scikit_learn(pairs):
    false, missed, thresholds = metrics.det_curve(*as_sklearn(*pairs))
    curve = rates(*pairs)
    at = torch.searchsorted(curve.threshold.double(), torch.from_numpy(-thresholds).clone())
    known = np.isfinite(thresholds)

    np.testing.assert_allclose(curve.fmr[at[known]], false[known], atol=1e-15)
    np.testing.assert_allclose(curve.fnmr[at[known]], missed[known], atol=1e-15)


@given(pairs=distances())
def test_numbers_are_those_of_scikit_learn(pairs):
    truth, scores = as_sklearn(*pairs)
    accuracy, threshold = best_threshold(*pairs)
    decided = scores >= -threshold.item()

    assert roc_auc(*pairs).item() == pytest.approx(metrics.roc_auc_score(truth, scores), abs=1e-12)
    assert average_precision(*pairs).item() == pytest.approx(
        metrics.average_precision_score(truth, scores), abs=1e-12
    )
    assert accuracy.item() == pytest.approx(metrics.balanced_accuracy_score(truth, decided))


@given(pairs=distances())
def test_precision_and_recall_are_those_of_scikit_learn(pairs):
    precision, recall, thresholds = metrics.precision_recall_curve(*as_sklearn(*pairs))
    curve = rates(*pairs)

    np.testing.assert_array_equal(curve.threshold[1:].flip(0), -thresholds)
    np.testing.assert_allclose(curve.precision.flip(0), precision, atol=1e-15)
    np.testing.assert_allclose(curve.recall.flip(0), recall, atol=1e-15)


@given(pairs=distances())
def test_equal_error_rate_is_where_the_roc_curve_of_scikit_learn_crosses(pairs):
    false, true, _ = metrics.roc_curve(*as_sklearn(*pairs), drop_intermediate=False)
    along = np.linspace(0, len(false) - 1, 20_001)
    fmr, fnmr = (np.interp(along, range(len(false)), rate) for rate in (false, 1 - true))

    assert equal_error_rate(*pairs)[0].item() == pytest.approx(
        fmr[np.abs(fmr - fnmr).argmin()], abs=0.01
    )


@given(pairs=distances(), threshold=st.floats(-0.5, 1.5, width=32))
def test_at_one_threshold_the_shares_are_those_of_the_counts_there(pairs, threshold):
    here = accepted(*pairs).only(threshold)
    precision, recall = precision_recall_at(*pairs, threshold)

    assert accuracy_at(*pairs, threshold) == here.accuracy[0]
    assert (precision, recall) == (here.precision[0], here.recall[0])


@given(pairs=distances(), fmr=st.floats(0.01, 1))
def test_partial_auc_is_that_of_scikit_learn(pairs, fmr):
    assert partial_auc(*pairs, fmr).item() == pytest.approx(
        metrics.roc_auc_score(*as_sklearn(*pairs), max_fpr=fmr), abs=1e-9
    )


@pytest.mark.parametrize("fmr", [0, 1.1, float("nan")])
def test_a_partial_auc_goes_up_to_a_share(fmr):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        partial_auc(torch.rand(10), torch.rand(10), fmr)


# --- Size, and bad input --------------------------------------------------------------------------


def test_millions_of_pairs_are_counted_exactly():
    # Every distance of 0 … 999 as often in both: half of all comparisons are won, exactly.
    genuine = torch.arange(1_000.0).repeat(1_000)
    impostor = torch.arange(1_000.0).repeat(2_000)

    assert roc_auc(genuine, impostor) == 0.5
    assert roc_auc(genuine, impostor + 0.5) == 0.5005
    assert equal_error_rate(genuine, impostor)[0].item() == pytest.approx(0.5, abs=1e-15)


@pytest.mark.parametrize(
    "of_both", [rates, roc_auc, equal_error_rate, best_threshold, average_precision, d_prime]
)
def test_nothing_and_unknown_distances_are_refused(of_both):
    some, none = torch.tensor([0.5, 0.7]), torch.tensor([])
    unknown = torch.tensor([0.5, torch.nan])

    with pytest.raises(
        ValueError, match="genuine pair, got none; compare two pictures of one person"
    ):
        of_both(none, some)
    with pytest.raises(
        ValueError, match="impostor pair, got none; compare two pictures of two people"
    ):
        of_both(some, none)
    with pytest.raises(ValueError, match="NaN for 1 of the 2 genuine pairs; look for"):
        of_both(unknown, some)
    with pytest.raises(ValueError, match="NaN for 1 of the 2 impostor pairs; look for"):
        of_both(some, unknown)


def test_infinite_distances_are_distances():
    far = torch.tensor([torch.inf, torch.inf])
    curve = rates(torch.tensor([0.1, torch.inf]), far)

    assert curve.threshold.tolist() == pytest.approx([-torch.inf, 0.1, torch.inf])
    assert curve.fmr.tolist() == [0, 0, 1]
    assert roc_auc(torch.tensor([0.1, torch.inf]), far) == 0.75


def test_an_fmr_that_cannot_be_read_is_refused():
    impostor = torch.rand(2000)

    with pytest.raises(
        ValueError,
        match=r"FMR 1e-05 cannot be read from 2,000 impostor pairs, which resolve 0.0015 at best "
        r"\(rule of three\); .*: 300,000 pairs are needed",
    ):
        threshold_at_fmr(impostor, 1e-5)
    assert threshold_at_fmr(impostor, 0.0015).isfinite()


@pytest.mark.parametrize("fmr", [0, 1, -0.1, 100, float("nan")])
def test_an_fmr_is_a_share(fmr):
    with pytest.raises(ValueError, match="between 0 and 1"):
        threshold_at_fmr(torch.rand(100), fmr)


@pytest.mark.parametrize("impostors", [47, 94, 147, 625, 1250, 2500])
def test_three_in_n_is_what_n_pairs_resolve_however_it_rounds(impostors):
    # For these numbers 3 / n * n is below 3.
    assert 3 / impostors * impostors < 3
    assert resolves(3 / impostors, impostors)
    assert not resolves(3 / impostors, impostors - 1)
    assert threshold_at_fmr(torch.arange(float(impostors)), 3 / impostors) == 2.5


def test_a_threshold_is_not_rounded_to_the_type_of_the_distances():
    # In float32 0.1 is a little more than 0.1, and so is rejected there, as it is everywhere else.
    genuine, impostor = torch.tensor([0.1, 0.3]), torch.tensor([0.1, 0.9])
    here = accepted(genuine, impostor).only(0.1)

    assert rates_at(genuine, impostor, 0.1) == (here.fmr[0], here.fnmr[0]) == (0, 1)
    assert accuracy_at(genuine, impostor, 0.1) == here.accuracy[0] == 0.5
    assert precision_recall_at(genuine, impostor, 0.1) == (1, 0)
