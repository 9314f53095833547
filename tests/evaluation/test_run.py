import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from siamlearn.comparison import compare
from siamlearn.data.images import ImageSet
from siamlearn.embeddings import Embeddings, embed
from siamlearn.estimates import Estimate
from siamlearn.evaluation import differences, evaluate, measuring
from siamlearn.functional.distances import cosine
from siamlearn.functional.histogram import PairCounter
from siamlearn.functional.verification import threshold_at_fmr
from siamlearn.known import known
from siamlearn.operating import OperatingPoint


def on_a_line(positions, labels, *, identities=("a", "b", "c", "d")):
    names = tuple(f"{i}.png" for i in range(len(positions)))
    vectors = torch.tensor(positions, dtype=torch.float32)[:, None]
    return Embeddings(vectors, torch.tensor(labels), tuple(identities), names)


def scattered(people=6, pictures=5, *, prefix="s", seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(people * pictures) // pictures
    centres = 2 * torch.randn(people, 4, generator=generator)
    return Embeddings(
        centres[labels] + torch.randn(len(labels), 4, generator=generator),
        labels,
        tuple(f"{prefix}{i}" for i in range(people)),
        tuple(f"{i}.png" for i in range(len(labels))),
    )


def pictures(people=4, each=3, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(people * each) // each
    faces = torch.randint(100, (people, 1, 8, 6), generator=generator)
    noise = torch.randint(155, (len(labels), 1, 8, 6), generator=generator)
    return ImageSet(
        (faces[labels] + noise).to(torch.uint8),
        labels,
        identities=[f"p{i}" for i in range(people)],
        names=[f"{i}.png" for i in range(len(labels))],
    )


def test_report_by_hand():
    # a at 0 and 1, b at 4 and 7: genuine 1 and 3, impostors 3, 4, 6 and 7.
    report = evaluate(on_a_line([0, 1, 4, 7], [0, 0, 1, 1]), fmrs=(0.8, 0.1))

    assert (report.genuine, report.impostor) == (2, 4)
    assert report.accepted.threshold.tolist() == [-torch.inf, 1, 3, 4, 6, 7]
    assert report.accepted.impostor.tolist() == [0, 0, 1, 2, 3, 4]
    assert report.auc == (8 - 0.5) / 8  # of the eight comparisons one is a tie
    # At 3.5 both genuine and one of four impostors are accepted.
    assert report.best_threshold == 3.5
    assert report.balanced_accuracy == 1 - (1 / 4 + 0) / 2
    assert report.accuracy == pytest.approx(5 / 6)
    # The picture at 4 has its right answer at 3, as far as a wrong one.
    assert report.rank1 == 3 / 4
    assert report.cmc[:4] == (3 / 4, 1, 1, 1)
    assert report.fnmr_at == {0.8: 0.0, 0.1: None}
    assert (report.people, report.pictures, report.without_answer) == (2, 4, 0)


def test_what_is_found_early_by_hand():
    # Each picture has one right one among its three others, three of them the nearest.
    report = evaluate(on_a_line([0, 1, 4, 7], [0, 0, 1, 1]), fmrs=(0.8, 0.1))

    assert report.precision_at == {5: 1 / 5, 10: 1 / 10}
    assert report.recall_at == {5: 1, 10: 1}
    # The picture at 4 finds it second, as far as a wrong one.
    assert report.ndcg == pytest.approx((3 + 1 / np.log2(3)) / 4)
    assert report.partial_auc[0.1] is None
    area = report.accepted.partial_auc(0.8).item()
    assert report.partial_auc[0.8] == area
    assert report.partial_auc[0.8].low < area < report.partial_auc[0.8].high


def test_the_detection_and_identification_rate_is_what_fnir_is_short_of_one():
    report = evaluate(scattered(), fpirs=(0.2, 0.01))

    found, missed = report.dir_at[0.2], report.fnir_at[0.2]
    assert found == 1 - missed
    assert (found.low, found.high) == (1 - missed.high, 1 - missed.low)
    assert report.dir_at[0.01] is None


def test_probes_against_a_gallery_by_hand():
    probes = on_a_line([0, 10, 20], [0, 1, 3])
    gallery = on_a_line([1, 2, 12, 30], [1, 0, 0, 2], identities=("b", "a", "e"))  # a b b e

    report = evaluate(probes, gallery=gallery)

    assert sorted(compare(probes, gallery).genuine.tolist()) == [1, 2, 8]
    assert (report.genuine, report.impostor) == (3, 12 - 3)
    assert (report.people, report.pictures, report.gallery_pictures) == (4, 3, 4)
    assert report.without_answer == 1  # d is in no gallery
    assert report.rank1 == 1
    assert "3 pictures against a gallery of 4, 4 people" in str(report)
    assert "ranks leave out 1 picture whose" in str(report)


@given(
    labels=st.lists(st.integers(0, 3), min_size=3, max_size=20).filter(
        lambda labels: 1 < len(set(labels)) < len(labels)
    )
)
def test_a_constant_scorer_is_never_flattered(labels):
    report = evaluate(on_a_line([5] * len(labels), labels), resamples=0)

    assert (report.auc, report.eer, report.balanced_accuracy) == (0.5, 0.5, 0.5)
    # All others are as near as the right one: it is found last, not first.
    several = {label: labels.count(label) for label in labels}
    asked = [several[label] for label in labels if several[label] > 1]
    assert report.rank1 == sum(count == len(labels) for count in asked) == 0


@st.composite
def any_embeddings(draw):
    count = draw(st.integers(3, 15))
    labels = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    assume(1 < len(set(labels)) < count)
    return on_a_line(draw(st.lists(st.integers(0, 9), min_size=count, max_size=count)), labels)


@settings(max_examples=50)
@given(embeddings=any_embeddings())
def test_rates_equal_scikit_learn(embeddings):
    from sklearn.metrics import det_curve, roc_auc_score, roc_curve

    report = evaluate(embeddings, fmrs=(0.5,), resamples=0)

    found = compare(embeddings)
    same = np.r_[np.ones(len(found.genuine)), np.zeros(len(found.impostor))]
    score = -torch.cat([found.genuine, found.impostor]).numpy()
    assert report.auc == pytest.approx(roc_auc_score(same, score))
    fpr, tpr, _ = roc_curve(same, score, drop_intermediate=False)
    assert report.balanced_accuracy == pytest.approx(((tpr + 1 - fpr) / 2).max())
    if report.fnmr_at[0.5] is not None:
        assert report.fnmr_at[0.5] == pytest.approx(1 - tpr[fpr <= 0.5].max())
    fmr, fnmr, _ = det_curve(same, score)
    # The EER lies between the two points where the curves cross.
    assert min(np.maximum(fmr, fnmr)) >= report.eer - 1e-9 >= max(np.minimum(fmr, fnmr)) - 1e-6


@settings(max_examples=50)
@given(embeddings=any_embeddings(), seed=st.integers(0, 99))
def test_neither_order_nor_numbering_of_people_matters(embeddings, seed):
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(embeddings), generator=generator)
    other = torch.randperm(4, generator=generator)
    renumbered = Embeddings(
        embeddings.vectors[order],
        other.argsort()[embeddings.labels[order]],
        tuple(embeddings.identities[i] for i in other.tolist()),
        tuple(embeddings.names[i] for i in order.tolist()),
    )

    one, same = (
        evaluate(each, resamples=20, audit=False).to_dict() for each in (embeddings, renumbered)
    )
    assert rounded(one) == rounded(same)


def rounded(values):
    """Means are sums in another order: but for their last digits they are the same."""
    return json.loads(json.dumps(values), parse_float=lambda text: round(float(text), 9))


def test_the_operating_point_is_reported_on_other_people():
    point = OperatingPoint.fit(scattered(prefix="other"), fmr=0.1)
    embeddings = scattered(seed=1)

    report = evaluate(embeddings, point)

    found = compare(embeddings)
    assert report.point is point
    assert report.fmr == (found.impostor.double() <= point.threshold).double().mean()
    assert report.fnmr == (found.genuine.double() > point.threshold).double().mean()
    assert report.fmr.low <= report.fmr <= report.fmr.high
    assert f"FMR 10 %: threshold {point.threshold:.4g}, FMR {report.fmr.percent()}" in str(report)


def test_what_calibrations_cost_is_told_once_where_it_is_the_same():
    others = scattered(prefix="other")
    one, two = (OperatingPoint.fit(others, fmr=fmr) for fmr in (0.1, 0.2))
    text = str(evaluate(scattered(seed=1), (one, two)))
    assert text.count("Cllr") == 1
    assert "at each of them: Cllr" in text

    apart = OperatingPoint.fit(scattered(seed=3, prefix="more"), fmr=0.2)
    assert str(evaluate(scattered(seed=1), (one, apart))).count("Cllr") == 2
    without = replace(two, calibration=None)
    assert str(evaluate(scattered(seed=1), (one, without))).count("Cllr") == 1


def test_several_operating_points_are_reported_side_by_side():
    other = scattered(prefix="other")
    strict, loose = (OperatingPoint.fit(other, fmr=fmr, name=f"{fmr}") for fmr in (0.05, 0.2))

    report = evaluate(scattered(seed=1), [strict, loose])

    assert [each.point for each in report.points] == [strict, loose]
    assert report.points[0].fmr <= report.points[1].fmr
    assert report.points[0].fnmr >= report.points[1].fnmr
    assert report.fmr is report.points[0].fmr


@pytest.mark.parametrize("where", ["tested", "gallery"])
def test_a_point_that_knows_the_tested_people_is_refused(where):
    strangers = scattered(prefix="other")
    known = replace(scattered(), identities=("s0", "s1", "x", "y", "z", "u"))
    point = OperatingPoint.fit(scattered(), fmr=0.1)
    probes, gallery = (known, None) if where == "tested" else (strangers, known)

    with pytest.raises(ValueError, match=r"2 of the \d+ tested ones \(s0, s1\).*split_identities"):
        evaluate(probes, point, gallery=gallery)


def test_people_who_are_only_known_by_name_may_have_been_seen():
    # A split keeps the names of all people; who is on no picture is not reported on.
    everybody = scattered()
    seen, tested = everybody.subset(range(15)), everybody.subset(range(15, 30))

    assert evaluate(tested, OperatingPoint.fit(seen, fmr=0.1)).fmr is not None


def test_a_point_of_another_distance_is_refused():
    point = OperatingPoint.fit(replace(scattered(prefix="other"), distance=cosine), fmr=0.1)

    with pytest.raises(
        ValueError, match="chosen with, cosine, got embeddings compared by euclidean;"
    ):
        evaluate(scattered(), point)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]], ids=["one person", "one picture each"])
def test_without_genuine_or_impostor_pairs_there_is_no_report(labels):
    with pytest.raises(ValueError, match="two pictures of one identity and pictures of two"):
        evaluate(on_a_line([1, 2, 3], labels))


def test_an_fmr_that_is_no_rate_is_refused():
    with pytest.raises(ValueError, match="fmrs must be above 0 and below 1, got 10"):
        evaluate(scattered(), fmrs=(10,))


def test_an_fmr_that_the_pairs_cannot_resolve_is_left_open():
    report = evaluate(scattered(), fmrs=(0.1, 1e-6))

    assert report.fnmr_at[0.1] is not None
    assert report.fnmr_at[1e-6] is None
    told = f"? {report.impostor} impostor pairs are too few: FNMR at FMR 0.0001 % takes 3,000,000 ("
    assert told in str(report)


def test_a_rate_that_is_not_told_is_named_with_what_it_takes():
    report = evaluate(scattered(), fmrs=(0.1,), fpirs=(0.2, 0.05, 0.01), resamples=0)

    [told] = [line for line in str(report).splitlines() if line.startswith("?")]
    assert told == (
        "? 30 pictures are too few: FNIR at FPIR 5 % takes 60, FNIR at FPIR 1 % takes 300 "
        "(rule of three)"
    )


def test_where_nobody_has_an_answer_no_size_is_asked_for():
    report = evaluate(scattered(), fmrs=(0.1,), fpirs=(0.2,), resamples=0)
    alone = replace(report, without_answer=report.pictures, fnir_at={0.2: None})

    assert "? nobody who was searched for is there: no FNIR can be told" in str(alone)


def test_the_report_and_the_threshold_agree_on_which_fmr_the_pairs_resolve():
    # 25 pictures of one against 25 of another: 625 impostor pairs, 3 of which are 0.0048.
    impostor = compare(people := scattered(2, 25)).impostor

    report = evaluate(people, fmrs=(0.0048, 0.0047), resamples=0)

    assert report.fnmr_at[0.0048] is not None
    assert report.fnmr_at[0.0047] is None
    assert threshold_at_fmr(impostor, 0.0048).isfinite()
    with pytest.raises(ValueError, match="rule of three"):
        threshold_at_fmr(impostor, 0.0047)


def rows(report):
    return [row.name for row in report.baselines]


def test_baselines_stand_beside_every_report_that_has_pictures():
    test, train = (embed(nn.Flatten(), pictures(seed=seed)) for seed in (0, 1))

    assert rows(evaluate(test)) == [
        "pixels",
        "PCA (fitted on these)",
        "PCA whitened (fitted on these)",
        "untrained net",
    ]
    assert rows(evaluate(test, train=train.images)) == [
        "pixels",
        "PCA",
        "PCA whitened",
        "PCA+LDA",
        "untrained net",
    ]
    assert rows(evaluate(test, gallery=train))[1] == "PCA (fitted on the gallery)"
    assert rows(evaluate(test, baselines=False)) == []
    assert rows(evaluate(replace(test, images=None))) == []


def test_baselines_compare_the_same_pictures():
    gallery, probes = (embed(nn.Flatten(), part) for part in pictures().split_gallery(pictures=2))

    report = evaluate(probes, gallery=gallery, train=gallery.images)

    for row in report.baselines:
        assert row.genuine == report.genuine
        assert (row.pictures, row.gallery_pictures) == (4, 8)
    # The net of this test is the pixels themselves.
    assert torch.equal(report.baselines[0].accepted.genuine, report.accepted.genuine)


def test_the_first_line_says_when_a_baseline_is_as_good():
    report = evaluate(embed(nn.Flatten(), pictures()), name="my net")
    assert str(report).startswith("my net does not beat P")
    assert {row.name for row in report.beaten_by} >= {"pixels"}

    better = replace(report, auc=Estimate(0.9999, 0.99, 1.0))
    assert better.beaten_by == ()
    assert "does not beat" not in str(better)


def test_a_difference_that_may_be_chance_is_called_so():
    one, other = (
        evaluate(scattered(seed=seed), name=name, baselines=False)
        for seed, name in ((1, "one"), (2, "other"))
    )
    report = replace(max(one, other, key=lambda report: report.auc), baselines=(other,))
    found = differences(one, other)[0]
    assert found.second == "other"
    assert found.value == one.auc - other.auc
    assert (found.p < 0.05) == found.clear

    # The same pictures, a little disturbed: nobody can tell which is better.
    noisy = evaluate(replace(one.embeddings, vectors=one.embeddings.vectors + 1e-3), name="noisy")
    told = differences(one, noisy)[0]
    assert not told.clear
    assert told.p > 0.9
    assert report.name in {"one", "other"}


def test_many_probes_of_one_person_are_told_of_that_person_alone():
    # By chance half of the probes find their person; 60 probes are of one person, 30 of 15 others.
    generator = torch.Generator().manual_seed(0)
    labels = torch.cat([torch.zeros(60), torch.arange(1, 16).repeat(2)]).long()
    people = tuple(f"s{i}" for i in range(16))
    centres = torch.randn(16, 4, generator=generator)
    seen = centres[labels] + torch.randn(90, 4, generator=generator)
    probes = Embeddings(seen, labels, people, tuple(f"{i}.png" for i in range(90)))
    enrolled = Embeddings(centres, torch.arange(16), people, tuple(f"g{i}" for i in range(16)))
    rare = torch.cat([torch.arange(2), torch.arange(60, 90)])
    few = Embeddings(seen[rare], labels[rare], people, tuple(f"{i}.png" for i in rare))

    many, equal = (
        evaluate(each, gallery=enrolled, baselines=False, audit=False) for each in (probes, few)
    )

    for name in ("mean_average_precision", "r_precision", "reciprocal_rank"):
        wide, narrow = getattr(many, name), getattr(equal, name)
        assert wide.high - wide.low > narrow.high - narrow.low


def test_differences_have_the_level_and_the_draws_that_were_asked_for():
    faces = pictures(6, 4)
    shown = replace(scattered(6, 4), names=faces.names, labels=faces.labels, images=faces)
    usual, narrow, again = (
        evaluate(shown, audit=False, fpirs=(), **asked)
        for asked in ({}, {"level": 0.5}, {"seed": 1})
    )

    for wide, other, drawn in zip(
        usual.differences, narrow.differences, again.differences, strict=True
    ):
        assert (wide.value.level, other.value.level) == (0.95, 0.5)
        assert other.value.high - other.value.low < wide.value.high - wide.value.low
        assert other.p == wide.p
        assert drawn.value == wide.value
    lows = [[d.value.low for d in each.differences] for each in (usual, again)]
    assert lows[0] != lows[1]


def test_systems_that_were_measured_on_other_pictures_are_not_compared():
    one = evaluate(scattered(), baselines=False, protocol="mine")
    other = evaluate(scattered(5), baselines=False)

    with pytest.raises(ValueError, match=r"net was measured on mine \(.*on all pairs \("):
        differences(one, other)


def test_the_table_is_aligned_and_says_what_flatters():
    lines = str(evaluate(embed(nn.Flatten(), pictures()))).splitlines()

    table = next(i for i, line in enumerate(lines) if "AUC  " in line)
    assert len({len(line) for line in lines[table : table + 4]}) == 1
    assert any("an upper bound" in line for line in lines[-4:])


def test_a_report_is_saved_as_strict_json(tmp_path):
    point = OperatingPoint.fit(scattered(prefix="other"), fmr=0.1)
    embeddings = replace(embed(nn.Flatten(), pictures()), vectors=torch.zeros(12, 2))

    for report in (evaluate(scattered(), point), evaluate(embeddings)):
        path = report.save(tmp_path / "report.json")
        assert json.loads(path.read_text()) == report.to_dict()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embeddings": None}, "embeddings must be Embeddings, got NoneType"),
        ({"embeddings": pictures()}, "embeddings must be Embeddings, got ImageSet"),
        ({"point": pictures()}, "point must be OperatingPoint, got ImageSet; .* to train="),
        ({"gallery": pictures()}, "gallery must be Embeddings, got ImageSet"),
        ({"baselines": "pixels"}, "baselines is either True or False, got 'pixels'"),
        ({"audit": 1}, "audit is either True or False, got 1"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_words(arguments, message):
    with pytest.raises(TypeError, match=message):
        evaluate(**{"embeddings": scattered(), **arguments})


def test_people_whom_the_net_was_trained_on_are_counted_and_told():
    people = replace(scattered(), trained_on=known(["s0", "s3", "somebody else"]))

    report = evaluate(people)

    assert report.trained_on == 2
    assert "trained on 2 of the 6 people" in str(report)
    assert "trained on" not in str(evaluate(scattered()))


def test_what_the_audit_found_is_told_in_the_report():
    test = pictures()
    leaked = evaluate(embed(nn.Flatten(), test), train=test)

    assert "people-in-train-and-test" in leaked.audit.kinds
    assert "! the audit found people-in-train-and-test" in str(leaked)
    assert evaluate(embed(nn.Flatten(), test), audit=False).audit is None


def test_without_resamples_there_are_values_and_no_intervals():
    asked = scattered()
    report, bare = evaluate(asked), evaluate(asked, resamples=0)

    assert report.auc.known
    assert not bare.auc.known
    assert bare.auc == report.auc
    assert bare.to_dict()["auc"]["low"] is None
    assert "[" not in "".join(str(bare).splitlines()[3:-1])


def test_a_wider_level_gives_wider_intervals():
    narrow, wide = (evaluate(scattered(), level=level) for level in (0.8, 0.99))

    for one, other in ((narrow.auc, wide.auc), (narrow.rank1, wide.rank1)):
        assert other.low <= one.low <= one <= one.high <= other.high
        assert other.high - other.low > one.high - one.low


def test_pictures_of_one_name_are_refused():
    twice = replace(scattered(), names=("1.png",) * 2 + tuple(f"{i}.png" for i in range(2, 30)))

    with pytest.raises(
        ValueError, match=r"the tested pictures 1 name is that of several \(1.png\)"
    ):
        evaluate(twice)
    with pytest.raises(ValueError, match="in the gallery 1 name is"):
        evaluate(scattered(prefix="t"), gallery=twice)


def test_nothing_is_refused_as_a_gallery():
    with pytest.raises(ValueError, match="gallery must hold a picture or more, got none"):
        evaluate(scattered(), gallery=scattered().subset([]))


def test_too_many_pairs_to_keep_are_counted_in_bins_and_the_error_is_told(monkeypatch):
    people = scattered(8, 6)
    exact = evaluate(people)
    monkeypatch.setattr(measuring, "PairCounter", partial(PairCounter, exactly=100, digits=2))

    binned = evaluate(people)

    assert str(exact.bounds) == "exact"
    low, high = binned.bounds.auc
    assert low <= exact.auc <= high
    assert low < high
    assert binned.auc == pytest.approx(float(exact.auc), abs=high - low)
    assert binned.auc.low == pytest.approx(exact.auc.low, abs=0.02)
    assert "counted in bins" in str(binned)
    assert binned.rank1 == exact.rank1


def few_among_many(gallery):
    """Five people who are told right with certainty, and 400 others with one picture each."""
    generator = torch.Generator().manual_seed(0)
    centres = 10 * torch.randn(405, 16, generator=generator)
    again = centres[:5] + 0.01
    names = [f"{i}.png" for i in range(410)]
    people = tuple(f"p{i:03d}" for i in range(405))
    every = torch.arange(405)
    if gallery:
        enrolled = Embeddings(centres, every, people, tuple(names[:405]))
        return Embeddings(again, every[:5], people[:5], tuple(names[405:])), enrolled
    both = torch.cat([centres, again])
    return Embeddings(both, torch.cat([every, every[:5]]), people, tuple(names)), None


@pytest.mark.parametrize("gallery", [False, True])
def test_people_without_a_pair_make_no_rate_of_genuine_pairs_surer(gallery):
    probes, enrolled = few_among_many(gallery)
    report = evaluate(probes, gallery=enrolled, baselines=False, audit=False)

    assert (report.genuine, report.fnmr_at[0.1], report.rank1) == (5, 0, 1)
    # None of five was missed: by Clopper and Pearson the rate may be up to 0.52.
    assert report.fnmr_at[0.1].high > 0.5
    assert report.rank1.low < 0.5


def test_a_rate_of_the_pairs_of_one_person_is_known_as_that_of_one():
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 60 + [p for p in range(1, 30) for _ in range(2)])
    vectors = 2 * torch.randn(30, 4, generator=generator)[labels]
    vectors += torch.randn(len(labels), 4, generator=generator)
    people = tuple(f"p{i:02d}" for i in range(30))
    names = tuple(f"{i}.png" for i in range(len(labels)))
    report = evaluate(Embeddings(vectors, labels, people, names), baselines=False, audit=False)

    # 1,770 of 1,799 genuine pairs are of one person.
    assert report.fnmr_at[0.1].high - report.fnmr_at[0.1].low > 0.5


def test_rates_at_a_point_are_exact_where_pairs_are_counted_in_bins(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) // 6
    vectors = torch.randn(10, 4, generator=generator)[labels]
    vectors += 0.5 * torch.randn(60, 4, generator=generator)
    names = tuple(f"{i}.png" for i in range(60))
    found = Embeddings(vectors, labels, tuple("abcdefghij"), names)
    point = OperatingPoint("by hand", 1.3, 0.01, 0.01, None, (), 0, 0, 0)
    exact = evaluate(found, point, baselines=False, audit=False)
    monkeypatch.setattr(measuring, "PairCounter", partial(PairCounter, exactly=100, digits=3))
    binned = evaluate(found, point, baselines=False, audit=False)

    pairs = compare(found)
    assert exact.fmr == binned.fmr == point.accepts(pairs.impostor).double().mean()
    assert exact.fnmr == binned.fnmr == (~point.accepts(pairs.genuine)).double().mean()


def test_people_who_were_never_compared_make_no_fmr_surer():
    probes, enrolled = few_among_many(gallery=True)
    point = OperatingPoint("by hand", 1.0, 0.01, 0.01, None, (), 0, 0, 0)
    report = evaluate(probes, point, gallery=enrolled, baselines=False, audit=False)

    assert (report.fmr, report.impostor) == (0, 5 * 404)
    # Five of 405 people were compared with the others, of 2,010 pairs of people none passed.
    assert report.fmr.high > 3.8 / 2010


def test_a_gallery_of_the_probes_themselves_makes_nothing_surer():
    found = on_a_line([0, 1, 4, 7], [0, 0, 1, 1])
    one, other = (evaluate(found, gallery=g, baselines=False, audit=False) for g in (None, found))
    assert (one.auc.low, one.auc.high) == pytest.approx((other.auc.low, other.auc.high))


def test_of_two_people_no_number_is_known_to_the_point():
    report = evaluate(on_a_line([0, 1, 4, 7], [0, 0, 1, 1]), baselines=False, audit=False)
    assert (report.d_prime.low, report.d_prime.high) == (-torch.inf, torch.inf)
    apart = evaluate(on_a_line([0, 0, 5, 5], [0, 0, 1, 1]), baselines=False, audit=False)
    assert apart.d_prime.low < apart.d_prime == torch.inf


@pytest.mark.parametrize("resamples", [-3, 1])
def test_a_number_of_draws_that_gives_no_spread_is_refused(resamples):
    line = on_a_line([0.0, 1.0, 4.0, 7.0], [0, 0, 1, 1])
    with pytest.raises(ValueError, match=f"resamples must be 0 for no .* got {resamples}"):
        evaluate(line, resamples=resamples)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"fmrs": ("1%",)}, "fmrs must be numbers above 0 and below 1, got '1%'; 1 % is 0.01"),
        ({"fmrs": 0.1}, r"fmrs must be several shares.* got 0.1; a single one is fmrs=\(0.01,\)"),
        ({"fpirs": "0.1"}, "fpirs must be several shares.* got '0.1'"),
        ({"fpirs": None}, "fpirs must be several shares.* got None"),
        ({"resamples": "x"}, "resamples must be a whole number.* got 'x'"),
        ({"resamples": 2.5}, "resamples must be a whole number.* got 2.5"),
        ({"level": "95 %"}, "level must be a number above 0 and below 1, got '95 %'; 0.95"),
        ({"name": 3}, "name is a text that stands in the report, got 3"),
        ({"protocol": 3}, "protocol is a text that stands in the report, got 3"),
    ],
)
def test_what_is_no_number_is_refused_in_words(asked, message):
    with pytest.raises(TypeError, match=message):
        evaluate(scattered(), **asked)


@pytest.mark.parametrize("seed", [-1, "x", 0.5])
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(ValueError, match=f"seed must be a whole number, 0 or more, got {seed!r}"):
        evaluate(scattered(), seed=seed)


def test_two_points_of_one_name_are_refused():
    point = OperatingPoint.fit(scattered(prefix="other"), fmr=0.1)

    with pytest.raises(ValueError, match=r"'FMR 10 %' is that of several; give each .*name=…"):
        evaluate(scattered(), [point, point])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 0, 0], "3 genuine and 0 .* of 1 person, .*; add pictures of other people$"),
        ([0, 1, 2], "0 genuine and 3 .*; add pictures of people who have one already$"),
    ],
)
def test_without_pairs_of_both_kinds_one_is_told_which_pictures_to_add(labels, message):
    with pytest.raises(ValueError, match=message):
        evaluate(on_a_line([1, 2, 3], labels))


def test_only_reports_are_compared():
    line = on_a_line([0.0, 1.0, 4.0, 7.0], [0, 0, 1, 1])
    report = evaluate(line, resamples=0)
    with pytest.raises(TypeError, match=r"two Reports .* evaluate\(…\) .*, got Embeddings"):
        differences(report, line)


def test_sessions_that_leave_no_genuine_pair_are_named_as_the_reason():
    line = on_a_line([0.0, 1.0, 4.0, 7.0], [0, 0, 1, 1])
    with pytest.raises(ValueError, match=r"0 genuine .* one session are not compared"):
        evaluate(replace(line, sessions=("monday",) * 4))
    with pytest.raises(ValueError, match=r"of 1 person, 1 dimension\); add pictures of other"):
        evaluate(line.subset([0, 1]))
