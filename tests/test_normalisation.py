from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from siamlearn import normalisation
from siamlearn.calibration import Calibration
from siamlearn.comparison import compare
from siamlearn.data.drawn import DrawnFaces
from siamlearn.embeddings import Embeddings, embed
from siamlearn.evaluation import evaluate
from siamlearn.functional.distances import cosine, euclidean, signal_to_noise
from siamlearn.functional.verification import equal_error_rate
from siamlearn.gallery import Gallery
from siamlearn.normalisation import Normalised, as_norm, s_norm, t_norm, z_norm
from siamlearn.operating import OperatingPoint


def people(count, pictures=3, *, seed=0, distance=euclidean):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(count, 8, generator=generator)
    labels = torch.arange(count * pictures) // pictures
    noise = 0.7 * torch.randn(len(labels), 8, generator=generator)
    names = tuple(f"{seed}/{i}.png" for i in range(len(labels)))
    identities = tuple(f"{seed}/{i}" for i in range(count))
    return Embeddings(centres[labels] + noise, labels, identities, names, distance=distance)


EVERY = [z_norm, t_norm, s_norm, lambda cohort: as_norm(cohort, nearest=7)]


def test_by_hand():
    # The cohort is at 0, 2 and 12. From 1 it is 1, 1 and 11 away: mean 13/3, variance 200/9.
    cohort = Embeddings(
        torch.tensor([[0.0], [2.0], [12.0]]), torch.arange(3), ("a", "b", "c"), ("1", "2", "3")
    )
    one, seven = torch.tensor([[1.0]]), torch.tensor([[7.0]])
    # From 7 it is 7, 5 and 5 away: mean 17/3, variance 8/9.
    from_one = (6 - 13 / 3) / (200 / 9) ** 0.5
    from_seven = (6 - 17 / 3) / (8 / 9) ** 0.5

    assert t_norm(cohort)(one, seven).item() == pytest.approx(from_one, rel=1e-5)
    assert z_norm(cohort)(one, seven).item() == pytest.approx(from_seven, rel=1e-5)
    assert s_norm(cohort)(one, seven).item() == pytest.approx((from_one + from_seven) / 2, rel=1e-5)
    # The two nearest are 0.5 and 1.5 away from 0.5, and 3 and 7 away from 9.
    half, nine = torch.tensor([[0.5]]), torch.tensor([[9.0]])
    nearest = ((8.5 - 1) / 0.5 + (8.5 - 5) / 2) / 2
    assert as_norm(cohort, nearest=2)(half, nine).item() == pytest.approx(nearest, rel=1e-5)


@pytest.mark.parametrize("distance", [euclidean, cosine, signal_to_noise])
def test_s_norm_is_the_mean_of_z_and_t_norm(distance):
    cohort, tested = people(9, seed=1, distance=distance), people(4, seed=2).vectors

    one, other = (norm(cohort)(tested[:5], tested) for norm in (z_norm, t_norm))

    torch.testing.assert_close(s_norm(cohort)(tested[:5], tested), (one + other) / 2)


@pytest.mark.parametrize("distance", [euclidean, cosine])
def test_a_symmetric_distance_stays_symmetric_where_both_sides_count(distance):
    cohort, tested = people(9, seed=1, distance=distance), people(4, seed=2).vectors

    for normalised in (s_norm(cohort), as_norm(cohort, nearest=5)):
        block = normalised(tested, tested)
        torch.testing.assert_close(block, block.mT, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(z_norm(cohort)(tested, tested), z_norm(cohort)(tested, tested).mT)


@pytest.mark.parametrize("norm", EVERY)
@given(scale=st.sampled_from([1e-6, 0.1, 300.0]), shift=st.sampled_from([0.0, 2.0]))
def test_the_unit_and_the_origin_of_the_distance_do_not_matter(norm, scale, shift):
    def other(queries, references):
        return scale * (euclidean(queries, references) + shift)

    cohort, tested = people(9, seed=1), people(4, seed=2).vectors.double()
    cohort = replace(cohort, vectors=cohort.vectors.double())

    here = norm(cohort)(tested[:5], tested)
    there = norm(replace(cohort, distance=other))(tested[:5], tested)

    torch.testing.assert_close(there, here)


def test_the_cohort_itself_is_at_0_with_deviation_1():
    cohort, tested = people(30, seed=1), people(3, seed=2).vectors

    from_query = t_norm(cohort)(tested, cohort.vectors)
    from_reference = z_norm(cohort)(cohort.vectors, tested).mT

    for block in (from_query, from_reference):
        torch.testing.assert_close(block.mean(dim=1), torch.zeros(len(tested)), atol=1e-5, rtol=0)
        torch.testing.assert_close(block.std(dim=1, correction=0), torch.ones(len(tested)))


@pytest.mark.parametrize("norm", EVERY)
def test_blocks_change_nothing(norm, monkeypatch):
    cohort, tested = people(9, seed=1), people(6, seed=2).vectors
    whole = norm(cohort)(tested, tested)

    monkeypatch.setattr(normalisation, "BLOCK", 2 * len(cohort))
    asked = norm(cohort)
    strips = torch.cat([asked(part, tested) for part in tested.split(5)])

    torch.testing.assert_close(strips, whole)


def test_t_norm_changes_no_ranking_of_a_query():
    cohort, tested = people(9, seed=1), people(6, seed=2).vectors

    order = t_norm(cohort)(tested, tested).argsort(dim=1)

    assert order.equal(euclidean(tested, tested).argsort(dim=1))


def test_references_are_compared_with_the_cohort_once_until_they_change():
    asked = []

    def counted(queries, references):
        asked.append((len(queries), len(references)))
        return euclidean(queries, references)

    cohort, tested = people(9, seed=1, distance=counted), people(6, seed=2).vectors
    normalised = z_norm(cohort)
    first = normalised(tested[:5], tested)

    assert normalised(tested[5:], tested).shape == (13, 18)
    assert asked.count((27, 18)) == 1
    tested.mul_(2)
    changed = normalised(tested[:5] / 2, tested)
    assert asked.count((27, 18)) == 2
    assert not torch.allclose(first, changed)
    assert z_norm(cohort)(tested[:5] / 2, tested).equal(changed)


def test_what_inference_mode_made_is_not_remembered():
    cohort = people(9, seed=1)
    normalised = z_norm(cohort)
    with torch.inference_mode():
        tested = people(6, seed=2).vectors
        before = normalised(tested, tested)
        tested.mul_(2)
        after = normalised(tested, tested)

    assert not torch.allclose(before, after)
    assert z_norm(cohort)(tested, tested).equal(after)


def test_it_takes_the_place_of_the_distance():
    # Each person's pictures are near to everybody or far from everybody, by person.
    def offset(queries, references):
        # The last number of a vector makes it far from whatever it is compared with.
        far = queries[:, None, -1] + references[None, :, -1]
        return euclidean(queries[:, :-1], references[:, :-1]) + far

    def with_offset(count, seed):
        plain = people(count, seed=seed, distance=offset)
        far = 3 * torch.rand(count, 1, generator=torch.Generator().manual_seed(seed))
        return replace(plain, vectors=torch.cat([plain.vectors, far[plain.labels]], dim=1))

    tested, cohort = with_offset(20, 1), with_offset(40, 2)
    rate = {
        name: equal_error_rate(found.genuine, found.impostor)[0].item()
        for name, found in (
            ("plain", compare(tested)),
            ("s_norm", compare(replace(tested, distance=s_norm(cohort)))),
        )
    }

    assert rate["s_norm"] < 0.7 * rate["plain"]


def test_it_goes_through_thresholds_probabilities_and_reports():
    distance = s_norm(people(20, seed=1))
    others, tested = (replace(people(20, seed=seed), distance=distance) for seed in (2, 3))

    point = OperatingPoint.fit(others, fmr=0.1)
    report = evaluate(tested, point)

    assert point.threshold < 0
    assert point.distance is distance
    assert report.auc > 0.8
    assert report.fmr < 0.25
    assert Calibration.fit(others).probability(-4.0) > 0.8


@pytest.mark.parametrize("kind", [torch.float64, torch.float16])
def test_it_takes_vectors_of_any_precision(kind):
    cohort, tested = people(9, seed=1), people(4, seed=2).vectors.half()

    block = s_norm(cohort)(tested.to(kind), tested.to(kind))

    expected = s_norm(cohort)(tested.float(), tested.float())
    torch.testing.assert_close(block.float(), expected, rtol=1e-4, atol=1e-4)
    assert block.dtype == torch.promote_types(kind, torch.float32)


def test_a_constant_distance_stays_constant():
    cohort, tested = people(9, seed=1, distance=lambda q, r: q.new_ones(len(q), len(r))), people(3)

    assert s_norm(cohort)(tested.vectors, tested.vectors).eq(0).all()


def test_it_says_what_it_is_and_whom_it_knows():
    cohort = people(9, seed=1)

    assert repr(s_norm(cohort)) == "s_norm(euclidean, 9 people, 27 pictures)"
    assert repr(as_norm(cohort, nearest=5)) == (
        "as_norm(euclidean, 9 people, 27 pictures, 5 nearest)"
    )
    assert s_norm(cohort).seen(("1/3", "2/3")) == ("1/3",)


def test_what_cannot_normalise_is_refused():
    cohort = people(4, seed=1)
    with pytest.raises(ValueError, match="at least two people, got 1"):
        s_norm(people(1))
    for nearest in (1, 13):
        with pytest.raises(ValueError, match=f"at most the 12 pictures .* got {nearest}"):
            as_norm(cohort, nearest=nearest)
    with pytest.raises(ValueError, match="got neither"):
        Normalised(cohort, queries=False, references=False)


OWN_COHORT = r"neither tested nor enrolled, but 2 of the \d+ {} ones \(1/0, 1/1\).*split_identities"


@pytest.mark.parametrize(
    "use", [evaluate, OperatingPoint.fit, Calibration.fit], ids=["report", "point", "calibration"]
)
def test_a_cohort_of_those_who_are_tested_is_refused(use):
    cohort, mixed = people(9, seed=1), people(6, seed=2)
    own = replace(mixed, identities=("1/0", "1/1", *mixed.identities[2:]))

    for norm in EVERY:
        with pytest.raises(ValueError, match=OWN_COHORT.format("tested")):
            use(replace(own, distance=norm(cohort)))


def test_a_cohort_of_those_who_are_enrolled_is_refused():
    cohort, tested, enrolled = (people(6, seed=seed) for seed in (1, 2, 3))
    distance = s_norm(cohort)
    enrolled = replace(enrolled, identities=("1/0", "1/1", *enrolled.identities[2:]))

    with pytest.raises(ValueError, match=OWN_COHORT.format("tested")):
        evaluate(replace(tested, distance=distance), gallery=replace(enrolled, distance=distance))


def test_nobody_of_the_cohort_is_enrolled():
    faces = DrawnFaces(identities=12, pictures=4, size=(28, 23))
    others, rest = faces.split_identities(held_out=8)
    cohort, staff = rest.split_identities(held_out=4)
    distance = s_norm(embed(nn.Flatten(), cohort))
    point = OperatingPoint.fit(replace(embed(nn.Flatten(), others), distance=distance), fmr=0.1)
    gallery = Gallery(nn.Flatten(), point, shape=faces.shape).enroll(staff)

    with pytest.raises(ValueError, match="1 of the 1 enrolled ones"):
        gallery.enroll(cohort.pixels[0], name=cohort.people[0])
    assert len(gallery) == len(staff.people)


def test_the_cohort_of_a_distance_that_was_normalised_already_counts():
    inner, outer = people(5, seed=1), people(5, seed=2)
    twice = s_norm(replace(outer, distance=s_norm(inner)))

    assert twice.seen(("1/0", "2/0", "3/0")) == ("1/0", "2/0")
