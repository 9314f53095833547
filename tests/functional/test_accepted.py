import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics

from siamlearn.functional.accepted import Accepted, accepted

GENUINE, IMPOSTOR = torch.tensor([0.25, 0.75]), torch.tensor([0.5, 0.75, 1.0])


def drawn(seed: int, pairs: int, levels: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(pairs, generator=generator) * levels).round() / levels


@st.composite
def distances(draw):
    """Few levels, many ties."""
    seed, levels = draw(st.integers(0, 2**16)), draw(st.sampled_from([1, 2, 7, 100_000]))
    sizes = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    return drawn(seed, sizes[0], levels), drawn(seed + 1, sizes[1], levels)


def as_sklearn(genuine: torch.Tensor, impostor: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    truth = np.r_[np.ones(len(genuine)), np.zeros(len(impostor))]
    return truth, -torch.cat([genuine, impostor]).numpy().astype(np.float64)


# --- By hand --------------------------------------------------------------------------------------


def test_counts_by_hand():
    seen = accepted(GENUINE, IMPOSTOR)

    assert seen.threshold.tolist() == [-torch.inf, 0.25, 0.5, 0.75, 1.0]
    assert seen.genuine.tolist() == [0, 1, 1, 2, 2]
    assert seen.impostor.tolist() == [0, 0, 1, 2, 3]
    assert seen.pairs == (2, 3)
    assert seen.exact


def test_shares_at_every_threshold_by_hand():
    seen = accepted(GENUINE, IMPOSTOR)

    assert seen.accuracy.tolist() == [3 / 5, 4 / 5, 3 / 5, 3 / 5, 2 / 5]
    assert seen.precision.tolist() == [1, 1, 1 / 2, 2 / 4, 2 / 5]
    assert seen.recall.tolist() == [0, 1 / 2, 1 / 2, 1, 1]
    assert seen.balanced_accuracy.tolist() == pytest.approx([1 / 2, 3 / 4, 7 / 12, 2 / 3, 1 / 2])
    assert seen.f_beta().tolist() == pytest.approx([0, 2 / 3, 1 / 2, 2 / 3, 4 / 7])
    # Recall twice as important: 5 PR / (4 P + R).
    assert seen.f_beta(2).tolist() == pytest.approx([0, 5 / 9, 1 / 2, 5 / 6, 10 / 13])


def test_thresholds_by_hand():
    seen = accepted(GENUINE, IMPOSTOR)

    assert [value.item() for value in seen.best_accuracy()] == pytest.approx([4 / 5, 0.375])
    assert [value.item() for value in seen.best_f_beta(2)] == pytest.approx([5 / 6, 0.875])
    assert seen.threshold_at_precision(1).item() == 0.375
    assert seen.threshold_at_precision(0.5).item() == 0.875
    assert seen.threshold_at_precision(0.4).item() == 1.0


def test_a_precision_that_no_threshold_reaches_accepts_nothing():
    seen = accepted(torch.tensor([0.75]), torch.tensor([0.5]))

    threshold = seen.threshold_at_precision(0.9)
    assert threshold.isfinite()
    assert seen.at(threshold) == (0, 1)


def test_partial_auc_by_hand():
    # Up to FMR 1/3 half of the genuine pairs pass, and in the next third they rise to all.
    seen = accepted(GENUINE, IMPOSTOR)

    assert seen.partial_auc(1 / 3, standardised=False).item() == pytest.approx(1 / 6)
    assert seen.partial_auc(1 / 2, standardised=False).item() == pytest.approx(
        1 / 6 + (0.5 + 0.75) / 2 / 6
    )
    assert seen.partial_auc(1).item() == pytest.approx(seen.auc().item())


def test_at_one_threshold_by_hand():
    here = accepted(GENUINE, IMPOSTOR).only(0.6)

    assert here.pairs == (2, 3)
    assert here.fmr[0].item() == pytest.approx(1 / 3)
    assert here.fnmr[0] == here.precision[0] == here.recall[0] == 0.5
    assert here.accuracy[0] == 0.6


def test_below_every_distance_nothing_is_accepted():
    assert accepted(GENUINE, IMPOSTOR).at(-5.0) == (0, 1)


# --- Laws -----------------------------------------------------------------------------------------


@given(pairs=distances())
def test_counts_are_what_counting_says(pairs):
    seen = accepted(*pairs)

    assert seen.threshold.tolist() == [-torch.inf, *sorted(set(torch.cat(pairs).tolist()))]
    for kind, counts in zip(pairs, (seen.genuine, seen.impostor), strict=True):
        assert counts.tolist() == [int((kind <= at).sum()) for at in seen.threshold]
        assert counts.dtype == torch.int64


@given(pairs=distances())
def test_rates_are_monotone_in_the_threshold(pairs):
    seen = accepted(*pairs)

    assert (seen.threshold.diff() > 0).all()
    assert (seen.fmr.diff() >= 0).all()
    assert (seen.fnmr.diff() <= 0).all()


@given(pairs=distances())
def test_swapping_the_kinds_and_the_sign_swaps_the_rates(pairs):
    genuine, impostor = pairs
    seen, swapped = accepted(genuine, impostor), accepted(-impostor, -genuine)

    assert seen.auc() == swapped.auc()
    assert seen.eer()[0].item() == pytest.approx(swapped.eer()[0].item(), abs=1e-12)
    assert seen.best()[0] == swapped.best()[0]
    torch.testing.assert_close(seen.fmr.flip(0), swapped.fnmr)
    torch.testing.assert_close(seen.fnmr.flip(0), swapped.fmr)


@given(pairs=distances())
def test_swapping_the_kinds_alone_turns_the_curve_over(pairs):
    genuine, impostor = pairs

    assert accepted(impostor, genuine).auc().item() == pytest.approx(
        1 - accepted(genuine, impostor).auc().item(), abs=1e-12
    )


@given(m=st.integers(1, 40), n=st.integers(1, 40), fmr=st.floats(0.001, 1))
def test_a_constant_scorer_is_at_chance(m, n, fmr):
    seen = accepted(torch.full((m,), 0.5), torch.full((n,), 0.5))

    assert seen.auc() == seen.eer()[0] == seen.best()[0] == 0.5
    assert seen.partial_auc(fmr).item() == pytest.approx(0.5)
    assert seen.average_precision().item() == pytest.approx(m / (m + n))


@given(pairs=distances(), levels=st.integers(1, 5))
def test_ties_never_flatter(pairs, levels):
    """Were every tie parted in favour of the genuine pair, no number would be worse."""
    coarse = [(kind * levels).round() / levels for kind in pairs]
    tied = accepted(*coarse)
    parted = accepted(coarse[0], coarse[1] + 1e-3)

    assert tied.auc() <= parted.auc()
    assert tied.eer()[0] >= parted.eer()[0] - 1e-12
    assert tied.fnmr_at(0.1) >= parted.fnmr_at(0.1)
    assert tied.best()[0] <= parted.best()[0]
    assert tied.best_f_beta()[0] <= parted.best_f_beta()[0] + 1e-12
    assert tied.average_precision() <= parted.average_precision() + 1e-12


@given(pairs=distances(), repeats=st.integers(1, 4))
def test_leading_axes_are_as_many_curves(pairs, repeats):
    one = accepted(*pairs)
    many = Accepted(
        one.threshold,
        torch.stack([one.genuine * (k + 1) for k in range(repeats)]),
        torch.stack([one.impostor.double() * (k + 1) for k in range(repeats)]),
    )

    for read in (
        lambda seen: seen.auc(),
        lambda seen: seen.partial_auc(0.3),
        lambda seen: seen.eer()[0],
        lambda seen: seen.eer()[1],
        lambda seen: seen.best()[1],
        lambda seen: seen.best_accuracy()[0],
        lambda seen: seen.best_f_beta(0.5)[1],
        lambda seen: seen.fnmr_at(0.1),
        lambda seen: seen.threshold_at(0.1),
        lambda seen: seen.threshold_at_precision(0.7),
        lambda seen: seen.average_precision(),
        lambda seen: seen.at(0.5)[0],
        lambda seen: seen.f_beta(2),
        lambda seen: seen.precision,
    ):
        expected = read(one).expand(repeats, *read(one).shape)
        torch.testing.assert_close(read(many), expected, equal_nan=True, check_dtype=False)
    spread = one.d_prime()
    assume(spread.isfinite())
    torch.testing.assert_close(many.d_prime(), spread.expand(repeats))


def test_people_drawn_anew_without_a_pair_of_a_kind_have_no_rates():
    threshold = torch.tensor([-torch.inf, 0.5, 1.0])
    none, some = torch.zeros(3), torch.tensor([0.0, 1.0, 2.0])
    seen = Accepted(threshold, torch.stack([none, some, some]), torch.stack([some, none, some]))

    for values in (seen.auc(), seen.eer()[0], seen.fnmr_at(0.1)):
        assert values.isnan().tolist() == [True, True, False]


def test_counts_whose_product_does_not_fit_into_64_bits_are_compared_all_the_same():
    many = 5_000_000_000
    counts = torch.tensor([0, many, 2 * many])
    seen = Accepted(torch.tensor([-torch.inf, 0.5, 1.0]), counts, counts)

    assert seen.auc().item() == pytest.approx(0.5)
    assert seen.best()[0].item() == pytest.approx(0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_thresholds_keep_the_type_of_the_distances(dtype):
    seen = accepted(GENUINE.to(dtype), IMPOSTOR.to(dtype))

    assert seen.threshold.dtype == dtype
    assert seen.genuine.tolist() == [0, 1, 1, 2, 2]


def test_zeros_of_either_sign_are_one_distance():
    seen = accepted(torch.tensor([0.0, 1.0]), torch.tensor([-0.0, -1.0, 2.0]))

    assert seen.threshold.tolist() == [-torch.inf, -1, 0, 1, 2]
    assert seen.impostor.tolist() == [0, 1, 2, 2, 3]


def test_nothing_is_counted_as_nothing():
    nothing = torch.tensor([])
    seen = accepted(nothing, nothing)

    assert (seen.threshold.tolist(), seen.pairs) == ([-torch.inf], (0, 0))


def test_distances_are_left_as_they_were():
    genuine = torch.tensor([3.0, 1.0, 2.0], requires_grad=True)
    accepted(genuine, genuine.detach())

    assert genuine.tolist() == [3, 1, 2]


# --- scikit-learn ---------------------------------------------------------------------------------


@given(pairs=distances(), fmr=st.floats(0.01, 1))
def test_partial_auc_is_that_of_scikit_learn(pairs, fmr):
    ours = accepted(*pairs).partial_auc(fmr).item()
    theirs = metrics.roc_auc_score(*as_sklearn(*pairs), max_fpr=fmr)

    assert ours == pytest.approx(theirs, abs=1e-9)


def test_where_impostors_are_many_it_may_be_most_accurate_to_reject_all():
    seen = accepted(torch.tensor([0.5]), torch.tensor([0.25, 0.375, 0.75, 1.0]))
    best, threshold = seen.best_accuracy()

    assert best == seen.accuracy.max() == 4 / 5
    assert threshold < 0.25
    # Told right no better than by accepting all, a threshold that takes something in is preferred.
    assert accepted(torch.tensor([0.5]), torch.tensor([0.25])).best_accuracy()[1] > 0.25


@given(pairs=distances(), prior=st.floats(0.001, 0.999))
def test_another_prior_changes_precision_by_the_rule_of_bayes_and_no_rate(pairs, prior):
    seen = accepted(*pairs)
    there = seen.at_prior(prior)
    right, wrong = prior * (1 - seen.fnmr), (1 - prior) * seen.fmr

    torch.testing.assert_close((there.fmr, there.fnmr), (seen.fmr, seen.fnmr))
    torch.testing.assert_close(there.precision[1:], (right / (right + wrong))[1:])


@given(
    pairs=distances(), threshold=st.floats(-0.5, 1.5, width=32), beta=st.sampled_from([0.5, 1, 2])
)
def test_decisions_are_scored_as_by_scikit_learn(pairs, threshold, beta):
    truth, scores = as_sklearn(*pairs)
    decided = scores >= -threshold
    here = accepted(*pairs).only(threshold)

    assert here.accuracy[0].item() == pytest.approx(metrics.accuracy_score(truth, decided))
    assert here.balanced_accuracy[0].item() == pytest.approx(
        metrics.balanced_accuracy_score(truth, decided)
    )
    assert here.precision[0].item() == pytest.approx(
        metrics.precision_score(truth, decided, zero_division=1)
    )
    assert here.recall[0].item() == pytest.approx(metrics.recall_score(truth, decided))
    assert here.f_beta(beta)[0].item() == pytest.approx(
        metrics.fbeta_score(truth, decided, beta=beta, zero_division=0)
    )
