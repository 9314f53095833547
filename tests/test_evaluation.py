import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from siamlearn.data.images import ImageSet
from siamlearn.embeddings import Embeddings, embed
from siamlearn.evaluation import evaluate, fnmr_at
from siamlearn.functional.distances import cosine
from siamlearn.functional.verification import threshold_at_fmr
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

    assert report.genuine.tolist() == [1, 3]
    assert sorted(report.impostor.tolist()) == [3, 4, 6, 7]
    assert report.auc == (8 - 0.5) / 8  # of the eight comparisons one is a tie
    # At 3.5 both genuine and one of four impostors are accepted.
    assert report.best_threshold == 3.5
    assert report.balanced_accuracy == 1 - (1 / 4 + 0) / 2
    assert report.accuracy == pytest.approx(5 / 6)
    # The picture at 4 has its right answer at 3, as far as a wrong one.
    assert report.rank1 == 3 / 4
    assert report.cmc == (3 / 4, 1, 1, 1)
    assert report.fnmr_at == {0.8: 0.0, 0.1: None}
    assert (report.people, report.pictures, report.without_answer) == (2, 4, 0)


def test_probes_against_a_gallery_by_hand():
    probes = on_a_line([0, 10, 20], [0, 1, 3])
    gallery = on_a_line([1, 2, 12, 30], [1, 0, 0, 2], identities=("b", "a", "e"))  # a b b e

    report = evaluate(probes, gallery=gallery)

    assert sorted(report.genuine.tolist()) == [1, 2, 8]
    assert len(report.impostor) == 12 - 3
    assert (report.people, report.pictures, report.gallery_pictures) == (4, 3, 4)
    assert report.without_answer == 1  # d is in no gallery
    assert report.rank1 == 1
    assert "3 pictures against a gallery of 4, 4 people" in str(report)
    assert "rank-1 leaves out 1 pictures" in str(report)


@given(
    labels=st.lists(st.integers(0, 3), min_size=3, max_size=20).filter(
        lambda labels: 1 < len(set(labels)) < len(labels)
    )
)
def test_a_constant_scorer_is_never_flattered(labels):
    report = evaluate(on_a_line([5] * len(labels), labels))

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

    report = evaluate(embeddings, fmrs=(0.5,))

    same = np.r_[np.ones(len(report.genuine)), np.zeros(len(report.impostor))]
    score = -torch.cat([report.genuine, report.impostor]).numpy()
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
        other[embeddings.labels[order]],
        tuple("wxyz"),
        tuple(embeddings.names[i] for i in order.tolist()),
    )

    assert evaluate(renumbered).to_dict() == evaluate(embeddings).to_dict()


def test_the_operating_point_is_reported_on_other_people():
    point = OperatingPoint.fit(scattered(prefix="other"), fmr=0.1)
    embeddings = scattered(seed=1)

    report = evaluate(embeddings, point)

    assert report.point is point
    assert report.fmr == (report.impostor <= point.threshold).double().mean()
    assert report.fnmr == (report.genuine > point.threshold).double().mean()
    assert f"At FMR 10 %, threshold {point.threshold:.4g} chosen on 6 other people" in str(report)


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

    with pytest.raises(ValueError, match="a threshold holds for the distance"):
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
    assert f"? {len(report.impostor)} impostor pairs are too few to tell" in str(report)


def test_the_report_and_the_threshold_agree_on_which_fmr_the_pairs_resolve():
    genuine, impostor = torch.zeros(4), torch.arange(625.0)

    assert fnmr_at(genuine, impostor, [0.0048]) == {0.0048: 0.0}  # 3 of 625
    assert threshold_at_fmr(impostor, 0.0048) == 2.5


def rows(report):
    return [row.name for row in report.baselines]


def test_baselines_stand_beside_every_report_that_has_pictures():
    test, train = (embed(nn.Flatten(), pictures(seed=seed)) for seed in (0, 1))

    assert rows(evaluate(test)) == ["pixels", "PCA (fitted on these)"]
    assert rows(evaluate(test, train=train.images)) == ["pixels", "PCA", "PCA+LDA"]
    assert rows(evaluate(test, gallery=train)) == ["pixels", "PCA (fitted on the gallery)"]
    assert rows(evaluate(test, baselines=False)) == []
    assert rows(evaluate(replace(test, images=None))) == []


def test_baselines_compare_the_same_pictures():
    gallery, probes = (embed(nn.Flatten(), part) for part in pictures().split_gallery(pictures=2))

    report = evaluate(probes, gallery=gallery, train=gallery.images)

    for row in report.baselines:
        assert len(row.genuine) == len(report.genuine)
        assert (row.pictures, row.gallery_pictures) == (4, 8)
    # The net of this test is the pixels themselves.
    assert torch.equal(report.baselines[0].genuine, report.genuine)


def test_the_first_line_says_when_a_baseline_is_as_good():
    report = evaluate(embed(nn.Flatten(), pictures()), name="my net")
    assert str(report).startswith("my net does not beat p")
    assert {row.name for row in report.beaten_by} >= {"pixels"}

    better = replace(report, auc=0.9999)
    assert better.beaten_by == ()
    assert str(better).startswith("12 pictures, 4 people: 12 genuine and 54 impostor pairs")


def test_the_table_is_aligned_and_says_what_flatters():
    lines = str(evaluate(embed(nn.Flatten(), pictures()))).splitlines()

    table = next(i for i, line in enumerate(lines) if "AUC  " in line)
    assert len({len(line) for line in lines[table : table + 4]}) == 1
    assert "an upper bound" in lines[-1] or "an upper bound" in lines[-2]


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
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_words(arguments, message):
    with pytest.raises(TypeError, match=message):
        evaluate(**{"embeddings": scattered(), **arguments})
