"""Embeddings that are all alike, distances that tie, and pairs that are too few."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import siamlearn as sl
from siamlearn.auditing.parts import part_of
from siamlearn.auditing.scores import spread, too_few
from siamlearn.functional.verification import resolves


def people(vectors, each=4, **kwargs):
    labels = torch.arange(len(vectors)) // each
    identities = tuple(f"p{label}" for label in range(int(labels.max()) + 1))
    return sl.Embeddings(vectors, labels, identities, tuple(map(str, range(len(labels)))), **kwargs)


def drawn(n=40, d=8, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def found(*args, **kwargs):
    return {finding.kind: finding for finding in sl.audit(*args, **kwargs)}


def test_vectors_without_a_fault_have_no_finding():
    assert found(people(drawn())) == {}
    assert found(people(drawn(3000, 16))) == {}
    assert found(people(drawn(), distance=sl.cosine)) == {}


def test_constant_embeddings_are_an_error_and_said_once():
    assert [*found(people(torch.ones(40, 8)))] == ["constant-embeddings"]


@given(dead=st.sets(st.integers(0, 7), max_size=6))
def test_dimensions_that_never_change_are_counted(dead):
    vectors = drawn()
    vectors[:, sorted(dead)] = 2.5

    finding = next(iter(spread(part_of("test", people(vectors)))), None)

    assert finding is None or finding.kind == "constant-dimensions"
    assert (finding.count if finding else 0) == len(dead)
    assert finding is None or finding.examples == tuple(map(str, sorted(dead)))


def test_embeddings_along_one_line_have_collapsed():
    along = drawn(40, 1) * drawn(1, 8, seed=1) + 0.01 * drawn(seed=2)

    assert found(people(along))["collapsed-embeddings"].severity is sl.Severity.WARNING
    assert "collapsed-embeddings" not in found(people(drawn(40, 2)))
    mostly = drawn() * torch.tensor([5.0, 1, 1, 1, 1, 1, 1, 1])
    assert "collapsed-embeddings" not in found(people(mostly))


def test_rounded_embeddings_tie():
    tied = found(people(drawn(d=2).round()))["tied-distances"]

    assert tied.severity is sl.Severity.WARNING
    assert tied.count > 0.9 * 40 * 39 / 2
    assert "tied-distances" not in found(people(drawn(d=2)))


def test_a_distance_that_is_no_number_is_an_error():
    def broken(queries, references):
        return sl.euclidean(queries, references) * torch.nan

    finding = found(people(drawn(), distance=broken), fmr=None)["distances-not-numbers"]
    assert (finding.severity, finding.count) == (sl.Severity.ERROR, 40 * 39 // 2)


@given(fmr=st.sampled_from([0.1, 0.01, 0.005, 0.001]), persons=st.integers(2, 20))
def test_too_few_impostors_are_found_where_the_rule_of_three_says_so(fmr, persons):
    impostors = persons * (persons - 1) // 2 * 16
    part = part_of("test", people(drawn(4 * persons)))
    finding = next(too_few(part, None, None, fmr), None)

    assert (finding is None) == resolves(fmr, impostors)
    assert finding is None or finding.count == impostors


@given(fmr=st.sampled_from([0.01, 0.003, 0.001]), each=st.integers(1, 6), enrolled=st.booleans())
def test_the_people_that_are_asked_for_are_enough_and_no_more(fmr, each, enrolled):
    few = people(drawn(3 * each, seed=1), each=each)
    gallery = people(drawn(3 * 2), each=2) if enrolled else None
    finding = found(few, gallery=gallery, fmr=fmr)["too-few-impostors"]
    asked = int(finding.advice.split()[1].replace(",", ""))

    def impostors(persons):
        return persons * (persons - 1) * (each * 4 if enrolled else each * each) // 2

    assert resolves(fmr, impostors(asked))
    assert not resolves(fmr, impostors(asked - 1))


def test_the_rate_of_a_point_is_asked_for_by_itself():
    others = people(drawn(400))
    strict, mild = (sl.OperatingPoint.fit(others, fmr=fmr) for fmr in (0.001, 0.1))
    point = [mild, replace(strict, people=()), replace(mild, fmr=None)]

    assert "FMR 0.001 cannot" in found(people(drawn()), point=point)["too-few-impostors"].what
    assert "too-few-impostors" not in found(people(drawn()), point=point, fmr=0.1)


def test_listed_pairs_are_what_counts_where_there_are_some():
    finding = found(people(drawn()), test_pairs=[(0, 1), (0, 4), (0, 8)], fmr=0.01)

    assert finding["too-few-impostors"].count == 2
    assert "list 300 impostor pairs" in finding["too-few-impostors"].advice


def test_a_test_without_genuine_or_impostor_pairs_is_an_error():
    assert {"no-genuine-pairs", "no-answer"} == {*found(people(drawn(), each=1))}
    assert "no-impostor-pairs" in found(people(drawn(), each=40))


@pytest.mark.parametrize("picked", [[0, 1, 5], [0, 1, 2, 3]])
def test_a_picture_is_no_genuine_pair_with_itself_in_the_gallery(picked):
    embeddings = people(drawn())
    finding = found(embeddings.subset([0, 4]), gallery=embeddings.subset(picked))

    assert ("no-genuine-pairs" in finding) is False
    assert "no-genuine-pairs" in found(embeddings.subset([0]), gallery=embeddings.subset([0, 4]))


def test_many_pictures_are_looked_at_alike_in_any_order():
    embeddings = people(torch.cat([drawn(600, 3).round(), drawn(600, 3)]))
    order = torch.randperm(1200, generator=torch.Generator().manual_seed(3))

    one, other = found(embeddings), found(embeddings.subset(order))
    assert one["tied-distances"] == other["tied-distances"]
