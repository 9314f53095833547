import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from siamlearn.embeddings import Embeddings
from siamlearn.estimates import Estimate
from siamlearn.operating.aims import aim
from siamlearn.operating.left_out import chosen_without, pairs_of, rates, share
from siamlearn.operating.resemblance import Resemblance, resemblance


def on_a_line(*positions, each=1):
    labels = torch.arange(len(positions) * each) // each
    shown = torch.tensor(positions).repeat_interleave(each) + 0.25 * (
        torch.arange(len(labels)) % each
    )
    people = tuple(f"p{i}" for i in range(len(positions)))
    return Embeddings(shown[:, None], labels, people, tuple(map(str, range(len(labels)))))


def test_pairs_say_whom_they_are_of():
    pairs = pairs_of(on_a_line(0.0, 4.0, each=2))

    assert pairs.genuine.tolist() == [0.25, 0.25]
    assert pairs.of.tolist() == [0, 1]
    assert pairs.impostor.tolist() == [4, 4.25, 3.75, 4]
    assert (pairs.one.tolist(), pairs.other.tolist()) == ([0] * 4, [1] * 4)
    assert pairs.nearest[:, 1].tolist()[:2] == [4, 3.75]
    assert pairs.with_people().impostor.tolist() == [4, 3.75, 3.75, 4]
    assert pairs.with_people().one.tolist() == [0, 0, 1, 1]


def test_each_pair_of_people_is_judged_by_a_threshold_without_them():
    # Between a, b, c, d at 0, 1, 10 and 30: without a and b only 20 is left, and so on.
    pairs = pairs_of(on_a_line(0.0, 1.0, 10.0, 30.0))
    rule = chosen_without(pairs, aim(fmr=0.5), stricter=False)

    assert rule.threshold == 15  # of 1, 9, 10, 20, 29 and 30
    just_below_20 = rule.judges[0, 1].item()
    assert 19.99 < just_below_20 < 20
    assert rule.judges[2, 3] < 1
    # 1 and 9 and 10, of those left out, lie below the threshold that was chosen without them.
    passed = rule.passes(pairs.impostor, pairs.one, pairs.other)
    assert pairs.impostor[passed].tolist() == [1, 10, 9]


def test_made_stricter_those_who_were_left_out_pass_at_the_asked_rate():
    pairs = pairs_of(on_a_line(0.0, 4.0, 5.0, 10.0, 20.0))
    rule = chosen_without(pairs, aim(fmr=0.5), stricter=True)

    passed = rule.passes(pairs.impostor, pairs.one, pairs.other)
    assert passed.double().mean() == 0.5
    assert rates(pairs, rule)["expected_fmr"] == 0.5


def test_a_share_of_independent_comparisons_has_clopper_and_pearsons_interval():
    # One comparison a person: the jackknife's variance is that of n - 1, p (1 - p) / (n - 1).
    who = torch.arange(200)
    found = share(who < 20, who, who, people=200, trials=200)
    plain = beta.ppf(0.025, 20, 181), beta.ppf(0.975, 21, 180)

    assert found == 0.1
    # A little wider: groups of people, and Student's quantile.
    assert found.low == pytest.approx(plain[0], abs=0.02)
    assert found.high == pytest.approx(plain[1], abs=0.02)


def test_pairs_of_one_person_do_not_make_a_share_surer():
    who = torch.arange(20)
    once = share(who < 2, who, who, people=20, trials=20)
    often = who.repeat_interleave(50)

    again = share(often < 2, often, often, people=20, trials=20)

    assert (again.low, again.high) == pytest.approx((once.low, once.high))


def test_where_none_passed_the_interval_does_not_shrink_to_a_point():
    who = torch.arange(10)
    none = share(who < 0, who, who, people=10, trials=10)
    both = share(who < 10, who, who, people=10, trials=10)

    assert none.low == none == 0
    assert 0.2 < none.high < 0.5
    assert (both.low, both.high) == pytest.approx((1 - none.high, 1))
    alone = share(torch.tensor([True]), who[:1], who[1:2], people=2, trials=1)
    assert (alone.low, alone.high) == (0, 1)


@settings(max_examples=30)
@given(seed=st.integers(0, 99), people=st.integers(3, 12), rate=st.floats(0.01, 0.99))
def test_a_share_lies_in_its_interval(seed, people, rate):
    generator = torch.Generator().manual_seed(seed)
    one, other = torch.triu_indices(people, people, 1)
    passed = torch.rand(len(one), generator=generator) < rate

    found = share(passed, one, other, people=people, trials=len(one))

    assert 0 <= found.low <= found <= found.high <= 1
    mirrored = share(~passed, one, other, people=people, trials=len(one))
    assert mirrored == pytest.approx(1 - found)


def test_alike_pictures_are_independent_and_one_that_resembles_all_is_not():
    rate = Estimate(0.5, 0.3, 0.7)
    picture = torch.arange(4).repeat_interleave(4)
    alike = torch.tensor([True, True, False, False] * 4)
    unlike = picture < 2

    assert resemblance(rate, alike, picture, people=5).fpir(2) == pytest.approx(0.75)
    assert resemblance(rate, unlike, picture, people=5).fpir(2) == pytest.approx(0.5)
    between = Resemblance(rate, 2.0, 5)  # uniform between 0 and 1: 1 - 1 / (N + 1)
    assert [between.fpir(n) for n in (1, 2, 9)] == pytest.approx([1 / 2, 2 / 3, 9 / 10])


def test_a_rate_that_is_not_known_well_is_expected_to_take_fewer_strangers():
    half = Estimate(0.5, 0.1, 0.9)
    unknown = Resemblance(half, float("inf"), 5, worth=2.0)  # any rate is as likely as any other

    assert [unknown.fpir(n) for n in (1, 2, 9)] == pytest.approx([1 / 2, 2 / 3, 9 / 10], abs=0.01)
    certain = Resemblance(half, float("inf"), 5)
    assert certain.fpir(2) == 0.75
    assert (unknown.fpir(2).low, unknown.fpir(2).high) == (
        certain.fpir(2).low,
        certain.fpir(2).high,
    )
    assert Resemblance.from_dict(unknown.to_dict()) == unknown


def test_less_than_one_that_passed_cannot_be_told_from_none():
    # Of ten pairs of five people one passed: no more trials than that are believed.
    one, other = torch.triu_indices(5, 5, 1)

    assert share(torch.arange(10) == 3, one, other, people=5, trials=10).low == 0
    assert share(torch.arange(10) < 8, one, other, people=5, trials=10).low > 0


def test_what_nobody_passes_nobody_passes_in_any_gallery():
    never = Resemblance(Estimate(0.0, 0.0, 0.1), float("inf"), 5)

    assert (never.fpir(50), never.fpir(50).low) == (0, 0)
    assert never.fpir(50).high == pytest.approx(1 - 0.9**50)
    assert Resemblance.from_dict(never.to_dict()) == never
    with pytest.raises(ValueError, match=r"of 1 to 50 people, 10 times the 5 .* got 51"):
        never.fpir(51)


def test_people_without_a_genuine_pair_make_no_fnmr_surer():
    three = on_a_line(0.0, 10.0, 20.0, each=2)
    alone = torch.arange(60)
    many = Embeddings(
        torch.cat([three.vectors, 50 + 10.0 * alone[:, None]]),
        torch.cat([three.labels, 3 + alone]),
        tuple(f"p{i}" for i in range(63)),
        tuple(map(str, range(66))),
    )
    few, more = (
        rates(pairs, chosen_without(pairs, aim(fmr=0.5), stricter=False))["seen_fnmr"]
        for pairs in (pairs_of(three), pairs_of(many))
    )
    assert few == more == 0
    assert more.high == pytest.approx(few.high)


def test_pictures_that_are_all_but_alike_pass_as_often_as_pictures_that_are_alike():
    # The moments of few pictures may agree but for the last digit: a + b is then some 1e16.
    rate = Estimate(0.01, 0.002, 0.03)
    one = Resemblance(rate, float("inf"), people=20)

    for alike in (1e8, 1e12, 2.5e16):
        other = Resemblance(rate, alike, people=20)
        for gallery in (1, 50, 200):
            assert other.fpir(gallery) == pytest.approx(one.fpir(gallery), rel=1e-4)
            assert other.fpir(gallery).low == pytest.approx(one.fpir(gallery).low, rel=1e-4)


def in_pairs(*positions):
    people = tuple(f"p{i}" for i in range(len(positions) // 2))
    labels = torch.arange(len(positions)) // 2
    names = tuple(map(str, range(len(positions))))
    return pairs_of(Embeddings(torch.tensor(positions)[:, None], labels, people, names))


def precision_of(pairs, threshold):
    right = (pairs.genuine <= threshold).double().mean()
    wrong = (pairs.impostor <= threshold).double().mean()
    return (right / (right + wrong)).item()


def test_a_threshold_made_stricter_still_keeps_a_precision():
    # Up to 12.5 the precision is 0.6; up to 7.9, which those who are left out would keep, 0.57.
    pairs, wanted = in_pairs(23.0, 11.0, 30.0, 12.0, 27.0, 24.0, 4.0, 7.0), aim(precision=0.6)

    assert precision_of(pairs, 7.9) < 0.6
    for strict in (False, True):
        assert precision_of(pairs, chosen_without(pairs, wanted, stricter=strict).threshold) >= 0.6
    assert chosen_without(pairs, wanted, stricter=True).threshold == 6.5


def test_a_precision_that_nobody_left_out_would_keep_is_refused():
    # The nearest pair of all is one of two persons.
    pairs, wanted = in_pairs(15.0, 6.0, 23.0, 25.0, 1.0, 29.0, 21.0, 0.0), aim(precision=0.6)

    assert precision_of(pairs, chosen_without(pairs, wanted, stricter=False).threshold) >= 0.6
    with pytest.raises(ValueError, match=r"left out of the 4 .* no genuine pair would pass; use"):
        chosen_without(pairs, wanted, stricter=True)
