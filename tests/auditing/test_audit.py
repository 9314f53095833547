"""The whole audit: what it says, its silence where nothing is wrong, and the notebook's faults."""

import json
import random
from functools import partial

import pytest
import torch

import siamlearn as sl
from siamlearn.auditing import Severity

FACES = sl.DrawnFaces(40, 10, size=(56, 46))
TEXT = """
2 errors, 2 notes

ERROR    people-in-train-and-test (train, test)
         2 of 3 tested people are in train too: s3, s4
         → split by people, as images.split_identities() does; give people names of their own if
           these are others of the same name

ERROR    identical-pictures (train, test)
         2 of 21 test pictures have an identical one in train: train s3/10 = test s3/10, train s4/1
         = test s4/1
         → remove copies from one side

NOTE     single-pictures (train)
         1 of 4 people has one picture and is in no genuine pair: s4
         → add pictures of them, or say that they are only ever compared with others

NOTE     no-answer (test)
         1 of 21 queries has no right answer among the others: s3/10
         → rank-1 and the CMC are of the other queries only: say how many, or quote FNIR at FPIR

checked: people and names of test (3), train (4); pictures of train (31), test (21): equal,
  re-encoded, mirrored; labels of train (31)
not checked: copies of JPEG quality below 50, as small as the pictures of train, test are; distances
  of test, which has no embeddings; labels of test: pixels confuse too many people, or too few have
  3 pictures
"""
MEANT = {"closed_set", "leave_one_out"}  # learn from the people that they test


def splits(images):
    for name in ("notebook", "repeated_disjoint", "closed_set", "leave_one_out", "bob_atnt"):
        yield name, next(iter(getattr(sl.protocols, name)(images)))


def audited(split, embed):
    test, gallery = (
        part if part is None or embed is None else embed(part)
        for part in (split.probes, split.gallery)
    )
    return sl.audit(test, train=split.train, gallery=gallery, fmr=0.01)


@pytest.mark.parametrize(("size", "seed"), [((56, 46), 0), ((28, 23), 1)])
def test_nothing_is_found_on_drawn_faces_that_were_split_as_they_should(size, seed):
    faces = sl.DrawnFaces(40, 10, size=size, seed=seed)

    for name, split in splits(faces):
        for embed in (None, partial(sl.pca, train=split.train)):
            audit = audited(split, embed)
            assert audit.clean
            assert set(audit.kinds) == ({"people-in-train-and-test"} if name in MEANT else set())


@pytest.mark.parametrize("size", [(112, 92), (28, 23)])
def test_nothing_is_found_on_real_faces_that_were_split_as_they_should(att_faces_root, size):
    faces = sl.ATTFaces(att_faces_root).resized(size)

    assert sl.audit(images=faces).findings == ()
    for name, split in splits(faces):
        for embed in (None, partial(sl.pca_lda, train=split.train)):
            audit = audited(split, embed)
            assert audit.clean
            assert set(audit.kinds) == ({"people-in-train-and-test"} if name in MEANT else set())


def test_the_faults_of_the_notebook_are_found():
    # It drew two pictures of a person without looking whether they were one, passed s1 over by an
    # off-by-one, and took the threshold that was best on the very pairs that it then reported.
    train = FACES.only([f"s{number}" for number in range(2, 32)])
    test = FACES.only([f"s{number}" for number in range(32, 41)])
    draw = random.Random(0)
    drawn = []
    for _ in range(300):
        person = draw.randrange(30)
        other = person if draw.random() < 0.5 else draw.randrange(30)
        drawn.append((10 * person + draw.randrange(10), 10 * other + draw.randrange(10)))
    embeddings = sl.pixels(test)
    point = sl.OperatingPoint.fit(embeddings, fmr=0.05)

    audit = sl.audit(embeddings, train=train, train_pairs=drawn, images=FACES, point=point)

    kinds = {finding.kind: finding for finding in audit}
    assert set(kinds) == {"self-pairs", "people-never-used", "threshold-chosen-on-test"}
    assert kinds["self-pairs"].count == sum(left == right for left, right in drawn) > 0
    assert kinds["people-never-used"].examples == ("s1",)
    assert kinds["threshold-chosen-on-test"].count == 9
    # Put right, it is clean.
    calibration = train.only(["s2", "s3", "s4", "s5", "s6", "s7"])
    point = sl.OperatingPoint.fit(sl.pixels(calibration), fmr=0.05)
    learned = train.only([f"s{number}" for number in range(8, 32)])
    audit = sl.audit(
        embeddings,
        train=learned,
        train_pairs=sl.PairSampler(learned.labels, pairs=30),
        calibration=calibration,
        images=FACES.only(FACES.people[1:]),
        point=point,
    )
    assert audit.findings == ()


def test_it_reads_well_worst_first():
    train, test = FACES.subset(range(31)), FACES.subset(range(29, 50))

    audit = sl.audit(test, train=train)

    assert str(audit) == TEXT.strip()


def test_where_nothing_is_found_it_says_what_was_looked_at():
    audit = sl.audit(sl.pixels(FACES.subset(range(50))), fmr=0.01)

    assert str(audit).startswith("nothing found\n\nchecked: people and names of test (5);")
    assert "FMR 0.01" in str(audit)
    assert audit.clean
    assert [*audit] == []


def test_what_could_not_be_looked_at_is_said():
    blind = sl.Embeddings(torch.eye(3), torch.arange(3), ("a", "b", "c"), ("1", "2", "3"))

    assert any(
        "pictures of test, which are not at hand" in what for what in sl.audit(blind).unchecked
    )


def test_it_is_plain_data_too():
    values = sl.audit(FACES.subset([0, 0, 11]), train=FACES.subset([0, 1])).to_dict()

    assert json.loads(json.dumps(values)) == values
    severities = [finding["severity"] for finding in values["findings"]]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
    assert {*severities} == {"error", "warning", "note"}


def test_findings_hold_no_more_examples_than_one_wants_to_read():
    leak = sl.audit(FACES, train=FACES).findings[0]

    assert leak.count == 40
    assert len(leak.examples) == 10
    assert str(leak).splitlines()[1].endswith("s1, s2, s3, s4, …")


def test_a_note_alone_is_clean_and_a_warning_is_not():
    alone = sl.audit(train=FACES.subset([0, 1, 10]))

    assert [finding.severity for finding in alone] == [Severity.NOTE]
    assert alone.clean
    assert not sl.audit(FACES.subset([0, 1, 10, 11]), fmr=0.01).clean


def test_an_audit_of_nothing_is_refused():
    with pytest.raises(ValueError, match="needs something to look at, got nothing"):
        sl.audit()
    with pytest.raises(ValueError, match="train must hold a picture or more, got none"):
        sl.audit(train=FACES.subset([]))


def test_what_is_no_part_is_refused():
    with pytest.raises(TypeError, match="gallery must be an ImageSet or Embeddings, got Tensor"):
        sl.audit(FACES, gallery=FACES.pixels)


@pytest.mark.parametrize("fmr", [0, 1, 3, -0.1])
def test_a_rate_that_is_none_is_refused(fmr):
    with pytest.raises(ValueError, match=f"fmr must be above 0 and below 1, got {fmr:g}"):
        sl.audit(sl.DrawnFaces(3, 2), fmr=fmr)
