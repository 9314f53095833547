"""Who is in which part."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import siamlearn as sl
from siamlearn.auditing.parts import Part, part_of
from siamlearn.auditing.people import answers
from siamlearn.auditing.scores import numbers
from siamlearn.comparison import strips

FACES = sl.DrawnFaces(8, 3, size=(28, 23))


def of(*numbers, faces=FACES):
    return faces.only([f"s{number}" for number in numbers])


def found(kind, *args, **kwargs):
    return [finding for finding in sl.audit(*args, **kwargs) if finding.kind == kind]


@given(shared=st.integers(0, 4))
def test_people_in_train_and_test_are_counted_and_named(shared):
    test = of(*range(5 - shared, 9 - shared))

    leaks = found("people-in-train-and-test", test, train=of(1, 2, 3, 4))

    assert [leak.count for leak in leaks] == [shared] * (shared > 0)
    for leak in leaks:
        assert leak.severity is sl.Severity.ERROR
        assert leak.where == ("train", "test")
        assert leak.examples == tuple(f"s{number}" for number in range(5 - shared, 5))


def test_a_person_in_the_gallery_only_is_tested_too():
    [leak] = found("people-in-train-and-test", of(3), train=of(1, 2), gallery=of(2, 3, 4))

    assert leak.where == ("train", "gallery")
    assert leak.examples == ("s2",)


def test_a_gallery_that_was_learned_from_makes_a_closed_set_and_that_is_only_noted():
    gallery, probes = FACES.split_gallery(pictures=2)

    audit = sl.audit(probes, train=gallery, gallery=gallery)

    assert audit.kinds == ("people-in-train-and-test",)
    assert audit.clean
    [leak] = found(
        "people-in-calibration-and-test",
        probes,
        train=gallery,
        gallery=gallery,
        calibration=gallery,
    )
    assert leak.severity is sl.Severity.ERROR
    assert "closed-set" in audit.findings[0].advice


def test_people_of_the_calibration_may_be_neither_tested_nor_learned_from():
    audit = sl.audit(of(5, 6), train=of(1, 2), calibration=of(2, 3, 6))

    where = {finding.kind: (str(finding.severity), finding.examples) for finding in audit}
    assert where["people-in-calibration-and-test"] == ("error", ("s6",))
    assert where["people-in-train-and-calibration"] == ("warning", ("s2",))


def test_a_threshold_is_known_to_have_seen_people_by_itself():
    point = sl.OperatingPoint.fit(sl.pixels(of(1, 2, 3)), fmr=0.2)

    audit = sl.audit(of(3, 4), train=of(2, 5), point=point)

    assert [
        (finding.kind, finding.examples) for finding in audit if "threshold" in finding.kind
    ] == [
        ("threshold-chosen-on-test", ("s3",)),
        ("threshold-chosen-on-train", ("s2",)),
    ]
    assert found("threshold-chosen-on-test", of(4, 5), point=point) == []


def test_each_of_several_thresholds_is_asked_whom_it_has_seen():
    points = [
        sl.OperatingPoint.fit(sl.pixels(of(*numbers)), fmr=0.2, name=f"on {numbers}")
        for numbers in ((1, 2, 3), (3, 4, 5), (6, 7, 8))
    ]

    seen = found("threshold-chosen-on-test", of(1, 3), point=points)

    assert [finding.examples for finding in seen] == [("s1", "s3"), ("s3",)]


def test_people_of_whom_no_picture_is_used_are_found():
    [unused] = found("people-never-used", of(7, 8), train=of(2, 3, 4, 5, 6), images=FACES)

    assert (unused.count, unused.examples) == (1, ("s1",))
    assert unused.what == "1 of 8 people is in no part"


def test_people_with_one_picture_are_noted():
    [alone] = found("single-pictures", train=FACES.subset([0, 1, 3, 6, 7]))

    assert (alone.count, alone.examples, str(alone.severity)) == (1, ("s2",), "note")


def test_queries_without_an_answer_are_counted_among_the_others_and_in_a_gallery():
    probes = FACES.subset([0, 1, 3, 6])
    [among] = found("no-answer", probes)
    [against] = found("no-answer", probes, gallery=FACES.subset([2, 4]))

    assert (among.count, among.examples) == (2, ("s2/1", "s3/1"))
    assert (against.count, against.examples) == (1, ("s3/1",))


def test_a_picture_in_the_gallery_is_no_answer_to_itself():
    [missing] = found("no-answer", FACES.subset([0, 3]), gallery=FACES.subset([0, 4]))

    assert missing.examples == ("s1/1",)


@given(data=st.data(), with_gallery=st.booleans(), with_sessions=st.booleans())
def test_pairs_and_answers_are_those_that_are_compared(data, with_gallery, with_sessions):
    def part(n, first):
        drawn = st.lists(st.integers(0, 3), min_size=n, max_size=n)
        labels = torch.tensor(data.draw(drawn))
        sessions = tuple(f"day {day % 2}" for day in data.draw(drawn))
        names = tuple(str(first + index) for index in range(n))
        vectors = torch.arange(first, first + n).float()[:, None]
        return sl.Embeddings(
            vectors, labels, tuple("abcd"), names, sessions=sessions if with_sessions else None
        )

    # Pictures 4 to 6 are in both.
    probes, gallery = part(7, 0), part(6, 4) if with_gallery else None
    blocks = [*strips(probes, gallery)]
    parts = part_of("test", probes), None if gallery is None else part_of("gallery", gallery)

    right, wrong = answers(*parts)
    assert right == [n for strip in blocks for n in (strip.same & strip.valid).sum(1).tolist()]
    assert wrong == [n for strip in blocks for n in (~strip.same & strip.valid).sum(1).tolist()]
    genuine, impostor = numbers(*parts)
    assert genuine == sum(len(strip.genuine) for strip in blocks)
    assert impostor == sum(len(strip.impostor) for strip in blocks)


def test_names_that_stand_for_two_pictures_are_found():
    twice = sl.from_arrays(FACES.pixels[:3], ["s1"] * 3, names=["1.png", "2.png", "1.png"])

    [finding] = found("names-twice", twice)
    assert (finding.count, finding.examples) == (1, ("1.png",))


def test_people_are_known_by_name_however_they_are_numbered():
    one = sl.from_arrays(FACES.pixels[:3], ["anna", "anna", "bob"])
    other = sl.from_arrays(FACES.pixels[3:6], ["bob", "carl", "carl"])

    [leak] = found("people-in-train-and-test", other, train=one)
    assert leak.examples == ("bob",)


@pytest.mark.parametrize("role", ["train", "calibration", "gallery"])
def test_a_part_counts_its_own_people_whatever_its_role(role):
    part = Part(role, ("1", "2", "3"), ("bob", "anna", "bob"))

    assert part.people == ("bob", "anna")
    assert part.counts == {"bob": 2, "anna": 1}
