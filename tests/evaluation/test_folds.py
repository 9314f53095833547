import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from siamlearn.baselines import pca_lda, pixels
from siamlearn.data.att_faces import ATTFaces
from siamlearn.data.drawn import DrawnFaces
from siamlearn.data.image_set import ImageSet
from siamlearn.data.pair_lists import PairList, read_pairs
from siamlearn.embeddings import Embeddings, embed
from siamlearn.evaluation import differences, evaluate, evaluate_folds, fold_differences
from siamlearn.functional.distances import cosine
from siamlearn.functional.resampling import draws
from siamlearn.known import known


def pairs_at(distances, same, fold):
    """Pictures on a line, each pair so far apart, all of other people."""
    count = len(distances)
    at = torch.stack([torch.zeros(count), torch.tensor(distances, dtype=torch.float32)], dim=1)
    labels = torch.arange(2 * count)
    labels[1::2] = torch.where(torch.tensor(same), labels[::2], labels[1::2])
    names = tuple(f"{i}.png" for i in range(2 * count))
    embeddings = Embeddings(at.reshape(-1, 1), labels, tuple(map(str, range(2 * count))), names)
    left = torch.arange(0, 2 * count, 2)
    pairs = PairList("drawn", names, left, left + 1, torch.tensor(same), torch.tensor(fold))
    return embeddings, pairs


@st.composite
def lists(draw):
    folds, each = draw(st.integers(2, 5)), draw(st.integers(1, 6))
    count = 2 * folds * each
    distances = draw(st.lists(st.integers(0, 9), min_size=count, max_size=count))
    same = [True, False] * (count // 2)
    return pairs_at(distances, same, [k // (2 * each) for k in range(count)])


# --- By hand --------------------------------------------------------------------------------------


def test_a_fold_is_judged_at_the_threshold_of_the_others():
    # In each of two folds a genuine pair and an impostor pair; those of the second are farther.
    embeddings, pairs = pairs_at([1, 3, 4, 8], [True, False, True, False], [0, 0, 1, 1])
    report = evaluate_folds(embeddings, pairs)

    assert report.thresholds == (6, 2)  # of the second, and of the first
    assert report.accuracies == (0.5, 0.5)  # 3 passes at 6; 4 is lost at 2
    assert report.accuracy == 0.5
    assert report.standard_error == 0
    assert report.auc == 0.75
    assert (report.genuine, report.impostor) == (2, 2)
    assert report.notes == ()


def test_the_standard_error_is_that_of_the_mean():
    embeddings, pairs = pairs_at([1, 5, 1, 5, 1, 2], [True, False] * 3, [0, 0, 1, 1, 2, 2])
    report = evaluate_folds(embeddings, pairs)

    assert report.thresholds == (1.5, 1.5, 3)
    assert report.accuracies == (1, 1, 0.5)
    assert report.accuracy == pytest.approx(5 / 6)
    deviation = math.sqrt((2 * (1 / 6) ** 2 + (1 / 3) ** 2) / 2)
    assert report.standard_error == pytest.approx(deviation / math.sqrt(3))


def test_where_all_is_right_the_interval_is_no_point():
    embeddings, pairs = pairs_at([1, 5] * 10, [True, False] * 10, [k // 4 for k in range(20)])
    report = evaluate_folds(embeddings, pairs)

    assert report.accuracy == report.accuracy.high == 1
    assert 0.5 < report.accuracy.low < 1
    assert report.auc.low < 1


def test_an_fmr_that_the_pairs_cannot_show_is_not_reported():
    embeddings, pairs = pairs_at([1, 5] * 40, [True, False] * 40, [k // 8 for k in range(80)])
    report = evaluate_folds(embeddings, pairs, fmrs=(0.1, 0.01))

    assert report.fnmr_at[0.1] == 0
    assert report.fnmr_at[0.01] is None
    assert "FNMR at FMR 1 %     too few pairs" in str(report)


def test_the_report_is_a_table_for_people_and_a_dictionary_for_programs():
    embeddings, pairs = pairs_at([1, 3, 4, 8], [True, False, True, False], [0, 0, 1, 1])
    report = evaluate_folds(embeddings, pairs, name="mine")

    lines = str(report).splitlines()
    assert lines[0] == f"mine on drawn ({pairs.digest[:8]}): accuracy 0.5000 ± 0.0000 over 2 folds"
    assert lines[-2:] == ["   1    0.5000  6", "   2    0.5000  2"]
    kept = json.loads(json.dumps(report.to_dict()))
    assert kept["protocol"] == {"name": "drawn", "digest": pairs.digest}
    assert kept["accuracies"] == [0.5, 0.5]
    assert kept["auc"]["value"] == 0.75


# --- Baselines, and two systems ------------------------------------------------------------------


FACES = DrawnFaces(identities=24, pictures=4, size=(28, 23))


@pytest.fixture(scope="module")
def listed():
    """Pairs of the last sixteen drawn people, four people a fold."""
    images = FACES.only([f"s{k}" for k in range(9, 25)])
    place = {name: i for i, name in enumerate(images.names)}
    rows = []
    for fold in range(4):
        people = [f"s{4 * fold + k + 9}" for k in range(4)]
        for one, other in zip(people, people[1:] + people[:1], strict=True):
            rows += [(f"{one}/1", f"{one}/2", True, fold), (f"{one}/3", f"{other}/4", False, fold)]
    left, right = (torch.tensor([place[row[k]] for row in rows]) for k in (0, 1))
    same, fold = (torch.tensor([row[k] for row in rows]) for k in (2, 3))
    return images, PairList("drawn", images.names, left, right, same, fold)


def told_by(images, pairs, *, right):
    """Embeddings that tell every pair right, or all wrong."""
    vectors = torch.zeros(len(images), 1 + len(images.identities))
    vectors[torch.arange(len(images)), images.labels] = 1.0
    if not right:
        vectors = torch.rand(len(images), 8, generator=torch.Generator().manual_seed(1))
    return Embeddings(vectors, images.labels, images.identities, images.names, images)


def test_whoever_does_not_beat_a_baseline_is_told_so_in_the_first_line(listed):
    report = evaluate_folds(told_by(*listed, right=False), listed[1], name="mine")

    names = ["pixels", "PCA (fitted on these)", "PCA whitened (fitted on these)", "untrained net"]
    assert [each.name for each in report.baselines] == names
    assert {each.protocol for each in report.baselines} == {report.protocol}
    best = max(report.baselines, key=lambda each: each.accuracy)
    assert report.verdict.startswith(f"mine does not beat {best.name} on drawn (")
    assert f" against {best.accuracy:.4f}, a difference of -" in report.verdict
    lines = str(report).splitlines()
    assert lines[0] == report.verdict
    assert sum(line.startswith("mine - ") for line in lines) == len(names)


def test_whoever_beats_all_baselines_is_told_that_after_the_number(listed):
    report = evaluate_folds(told_by(*listed, right=True), listed[1])
    assert all(each.accuracy < 1 for each in report.baselines)

    assert report.verdict.startswith(f"net on {report.protocol}: accuracy 1.0000 ± 0.0000")
    clear = all(each.clear for each in report.differences if each.what == "accuracy")
    assert clear == ("better than every baseline" in report.verdict)
    alone = evaluate_folds(told_by(*listed, right=True), listed[1], resamples=0)
    assert "not known whether net is better than" in alone.verdict
    assert alone.differences == ()


def test_baselines_learn_from_the_pictures_of_training(listed):
    images, pairs = listed
    train = FACES.only([f"s{k}" for k in range(1, 9)])
    report = evaluate_folds(pixels(images), pairs, train=train)

    assert [each.name for each in report.baselines][1:4] == ["PCA", "PCA whitened", "PCA+LDA"]
    alone = evaluate_folds(pca_lda(images, train=train), pairs, baselines=False)
    assert report.baselines[3].accuracies == alone.accuracies
    assert alone.baselines == alone.differences == ()


def test_two_systems_are_compared_on_the_same_folds_drawn_anew(listed):
    images, pairs = listed
    one, other = (
        evaluate_folds(each, pairs, baselines=False, name=name, fmrs=(0.5,))
        for name, each in (("one", pixels(images)), ("other", told_by(*listed, right=False)))
    )
    found = fold_differences(one, other, seed=3)
    back = fold_differences(other, one, seed=3)

    assert [each.what for each in found] == ["accuracy", "AUC", "EER", "FNMR at FMR 50 %"]
    assert [float(each.value) for each in found] == pytest.approx(
        [
            one.accuracy - other.accuracy,
            one.auc - other.auc,
            one.eer - other.eer,
            one.fnmr_at[0.5] - other.fnmr_at[0.5],
        ]
    )
    for each, reverse in zip(found, back, strict=True):
        assert float(each.value) == -float(reverse.value)
        assert each.value.low == pytest.approx(-reverse.value.high)
    # The spread is that of the mean difference, folds drawn anew.
    gap = torch.tensor(one.accuracies).double() - torch.tensor(other.accuracies).double()
    weights = draws(4, 1000, 3)
    spread = float((weights @ gap / 4).std())
    half = (found[0].value.high - found[0].value.low) / 2
    assert half == pytest.approx(3.1824 * math.hypot(spread, 1 / len(pairs)), rel=1e-3)


def test_a_system_does_not_differ_from_itself(listed):
    report = evaluate_folds(pixels(listed[0]), listed[1], baselines=False)

    found = fold_differences(report, report)
    assert [(float(each.value), each.clear) for each in found] == [(0.0, False)] * 3


def blackened(images, places):
    """The same pictures, of the same names, but for some."""
    found = images.pixels.clone()
    found[places] = 0
    return ImageSet(found, images.labels, identities=images.identities, names=images.names)


def test_pictures_that_were_exchanged_under_their_names_are_noticed(listed):
    images, pairs = listed
    used = [*pairs.left.tolist(), *pairs.right.tolist()]
    changed = pixels(blackened(images, used[:1]))
    one, other, without, unused = (
        evaluate_folds(each, pairs, baselines=False)
        for each in (
            pixels(images),
            changed,
            replace(changed, images=None),
            pixels(blackened(images, [i for i in range(len(images)) if i not in used])),
        )
    )

    assert one.protocol.digest == other.protocol.digest
    with pytest.warns(UserWarning, match="the same names have other pixels for net"):
        fold_differences(one, other)
    assert without.protocol.pictures is None
    fold_differences(one, without)  # nobody can tell
    assert unused.protocol == one.protocol


def test_results_of_two_lists_are_not_compared(listed):
    images, pairs = listed
    one = evaluate_folds(pixels(images), pairs, baselines=False)
    turned = replace(pairs, fold=pairs.fold.flip(0))
    other = evaluate_folds(pixels(images), turned, baselines=False, name="other")

    with pytest.raises(ValueError, match=r"net was measured on drawn .*, other on drawn .*; eval"):
        fold_differences(one, other)
    with pytest.raises(TypeError, match=r"two FoldReports are compared, .* got Report"):
        fold_differences(one, evaluate(pixels(images), baselines=False, audit=False, resamples=0))
    with pytest.raises(TypeError, match="got FoldReport; fold_differences is for those"):
        differences(one, other)


def test_a_net_that_was_trained_on_these_people_is_told_so_first(listed):
    images, pairs = listed
    embeddings = replace(pixels(images), trained_on=known(["s9", "s10", "s1"]))
    report = evaluate_folds(embeddings, pairs, baselines=False)

    assert report.trained_on == 2
    assert report.verdict.startswith("! The net was trained on 2 of the people")


def test_a_report_with_baselines_is_saved(listed, tmp_path):
    report = evaluate_folds(pixels(listed[0]), listed[1])
    kept = json.loads(report.save(tmp_path / "report.json").read_text())

    assert kept["verdict"] == report.verdict
    assert [each["name"] for each in kept["baselines"]] == [each.name for each in report.baselines]
    assert kept["protocol"]["pictures"] == report.protocol.pictures
    assert len(kept["differences"]) == len(report.differences)


# --- Laws -----------------------------------------------------------------------------------------


@given(drawn=lists())
def test_folds_are_judged_as_by_the_straight_loop(drawn):
    embeddings, pairs = drawn
    distance = (embeddings.vectors[pairs.left] - embeddings.vectors[pairs.right]).abs().flatten()
    report = evaluate_folds(embeddings, pairs, resamples=20)

    for k, (accuracy, threshold) in enumerate(
        zip(report.accuracies, report.thresholds, strict=True)
    ):
        others, own = pairs.fold != k, pairs.fold == k
        asked = [-1.0, *distance.unique().tolist()]
        of_others = [(((distance <= at) == pairs.same)[others]).double().mean() for at in asked]
        chosen = ((distance <= threshold) == pairs.same)[others].double().mean()
        assert chosen >= max(of_others[1:]) - 1e-12
        assert accuracy == ((distance <= threshold) == pairs.same)[own].double().mean()
    truth = pairs.same.numpy()
    assert float(report.auc) == pytest.approx(metrics.roc_auc_score(truth, -distance.numpy()))


@given(drawn=lists(), seed=st.integers(0, 99))
def test_no_fold_has_a_say_in_its_own_threshold(drawn, seed):
    embeddings, pairs = drawn
    before = evaluate_folds(embeddings, pairs, resamples=2)
    moved = embeddings.vectors.clone()
    generator = torch.Generator().manual_seed(seed)
    moved[pairs.right[pairs.fold == 0]] = 9 * torch.rand(
        int((pairs.fold == 0).sum()), 1, generator=generator
    )

    after = evaluate_folds(replace(embeddings, vectors=moved), pairs, resamples=2)
    assert after.thresholds[0] == before.thresholds[0]


@given(each=st.integers(1, 5), folds=st.integers(2, 6))
def test_a_constant_scorer_is_at_chance(each, folds):
    count = 2 * each * folds
    embeddings, pairs = pairs_at(
        [1] * count, [True, False] * (count // 2), [k // (2 * each) for k in range(count)]
    )
    report = evaluate_folds(embeddings, pairs, resamples=20)

    assert set(report.accuracies) == {0.5}
    assert report.auc == report.eer == 0.5


# --- Notes, and bad input -------------------------------------------------------------------------


def test_what_to_know_before_one_quotes_it_is_noted():
    embeddings, pairs = pairs_at([1, 5, 1, 5], [True, False] * 2, [0, 0, 1, 1])
    more = replace(
        pairs,
        left=pairs.left[[0, 1, 2, 3, 0]],
        right=pairs.right[[0, 1, 2, 3, 0]],
        same=pairs.same[[0, 1, 2, 3, 0]],
        fold=torch.tensor([0, 0, 1, 1, 1]),
    )
    notes = " ".join(evaluate_folds(embeddings, more).notes)

    assert "more pairs of one kind" in notes
    assert "folds share people" in notes
    assert "1 pairs are in the list more than once" in notes
    assert notes.split(". ")[-1] in str(evaluate_folds(embeddings, more))


def test_a_list_of_other_pictures_is_refused():
    embeddings, pairs = pairs_at([1, 5, 1, 5], [True, False] * 2, [0, 0, 1, 1])

    with pytest.raises(ValueError, match=r"read it with read_pairs\(file, embeddings\)"):
        evaluate_folds(embeddings.subset([0, 1, 2]), pairs)
    with pytest.raises(ValueError, match="chosen on the others, but drawn has one fold"):
        evaluate_folds(embeddings, replace(pairs, fold=0 * pairs.fold))
    with pytest.raises(ValueError, match="got 4 genuine and 0 impostor pairs"):
        evaluate_folds(embeddings, replace(pairs, same=torch.ones(4).bool()))


@pytest.mark.parametrize("distance", [cosine, torch.cdist])
def test_pairs_are_as_far_apart_as_their_distance_says(distance):
    generator = np.random.default_rng(0)
    embeddings, pairs = pairs_at([1, 5, 1, 5], [True, False] * 2, [0, 0, 1, 1])
    vectors = torch.from_numpy(generator.normal(size=(8, 3))).float()
    embeddings = replace(embeddings, vectors=vectors, distance=distance)

    expected = distance(vectors, vectors)[pairs.left, pairs.right]
    seen = evaluate_folds(embeddings, pairs).accepted.threshold[1:]
    torch.testing.assert_close(seen, expected.sort().values)


def test_a_list_in_the_form_of_lfw_judges_the_att_faces(att_faces_root, tmp_path):
    images = ATTFaces(att_faces_root)
    lines = ["4 5"]
    for fold in range(4):
        people = [f"s{10 * fold + k + 1}" for k in range(10)]
        lines += [f"{person} 1 7" for person in people[:5]]
        lines += [f"{one} 2 {other} 2" for one, other in zip(people[:5], people[5:], strict=True)]
    path = tmp_path / "att.txt"
    path.write_text("\n".join(lines))
    pairs = read_pairs(path, images)
    report = evaluate_folds(embed(torch.nn.Flatten(), images), pairs)

    assert len(report.accuracies) == 4
    assert report.notes == ()
    assert 0.7 < report.accuracy <= 1


def test_without_resamples_there_are_numbers_but_no_intervals():
    embeddings, pairs = pairs_at([1, 3, 4, 8], [True, False, True, False], [0, 0, 1, 1])
    report, usual = (evaluate_folds(embeddings, pairs, resamples=n) for n in (0, 1000))

    assert (report.accuracies, report.thresholds) == (usual.accuracies, usual.thresholds)
    assert (report.auc, report.eer, report.accuracy) == (usual.auc, usual.eer, usual.accuracy)
    assert not any(each.known for each in (report.auc, report.eer, report.accuracy))
    assert "drawn anew" in str(usual)
    assert "drawn anew" not in str(report)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"resamples": 1},
            "resamples must be 0 for no intervals, or two or more; 1000 will do; got 1",
        ),
        ({"resamples": -1}, "resamples must be 0"),
        ({"seed": -1}, "seed must be a whole number, 0 or more, got -1"),
        ({"level": 2.0}, "a level is a share between 0 and 1, got 2"),
        ({"fmrs": (2,)}, "fmrs must be above 0 and below 1, got 2"),
        ({"fmrs": (0,)}, "fmrs must be above 0 and below 1, got 0"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(asked, said):
    embeddings, pairs = pairs_at([1, 3, 4, 8], [True, False, True, False], [0, 0, 1, 1])
    with pytest.raises(ValueError, match=said):
        evaluate_folds(embeddings, pairs, **asked)


def test_a_list_of_pictures_of_one_name_is_refused():
    embeddings, pairs = pairs_at([1, 3, 4, 8], [True, False, True, False], [0, 0, 1, 1])
    names = ("0.png", *pairs.names[1:4], "0.png", *pairs.names[5:])
    with pytest.raises(ValueError, match="every picture must have a name of its own"):
        evaluate_folds(replace(embeddings, names=names), replace(pairs, names=names))


def test_what_is_no_embedding_is_refused():
    _, pairs = pairs_at([1, 3, 4, 8], [True, False, True, False], [0, 0, 1, 1])
    with pytest.raises(TypeError, match="embeddings must be Embeddings, got str"):
        evaluate_folds("x", pairs)
    embeddings, pairs = pairs_at([1, 3, 4, 8], [True, False, True, False], [0, 0, 1, 1])
    with pytest.raises(TypeError, match="baselines is either True or False"):
        evaluate_folds(embeddings, pairs, baselines=[pixels])


def test_the_path_of_a_list_is_no_list():
    embeddings = Embeddings(torch.eye(2), torch.tensor([0, 1]), ("a", "b"), ("1", "2"))
    with pytest.raises(TypeError, match=r"PairList, as read_pairs\(.*\) returns it, got str"):
        evaluate_folds(embeddings, "pairs.txt")
