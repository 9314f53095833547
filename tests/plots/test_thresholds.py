from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score

from figures import curve
from siamlearn.comparison import strips
from siamlearn.plots import accuracy, distance_histogram, error_rates


def pairs(report):
    """Whether each pair is genuine, and its distance."""
    (strip,) = strips(report.embeddings)
    return strip.same[strip.once], strip.distance[strip.once]


def test_the_histogram_is_that_of_numpy_for_both_kinds(report):
    same, distance = pairs(report)
    span = distance.min().item(), distance.max().item()
    drawn = {patch.get_label(): patch for patch in distance_histogram(report, bins=20).patches}
    for name, kind in (("genuine", distance[same]), ("impostor", distance[~same])):
        stairs = drawn[f"{name} ({len(kind):,} pairs)"].get_data()
        expected, edges = np.histogram(kind.numpy(), bins=20, range=span, density=True)
        np.testing.assert_allclose(stairs.edges, edges, atol=1e-6)
        np.testing.assert_allclose(stairs.values, expected, atol=1e-6)


def test_few_pairs_are_drawn_in_few_bins(report):
    bins = len(distance_histogram(report).patches[0].get_data().values)
    assert bins == round(2 * report.genuine**0.5) < 60


def test_without_a_point_the_threshold_is_that_of_the_equal_error_rate(report):
    for draw in (distance_histogram, error_rates):
        at = curve(draw(report), f"equal error rate {report.eer:.3f}")[0]
        assert set(at) == {report.eer_threshold}


@pytest.mark.parametrize("draw", [distance_histogram, error_rates], ids=lambda d: d.__name__)
def test_the_thresholds_of_operating_points_are_lines_with_marks_of_their_own(pointed, draw):
    ax = draw(pointed)
    marks = set()
    for seen in pointed.points:
        (line,) = [line for line in ax.lines if line.get_label().startswith(f"{seen.point.name},")]
        assert set(line.get_xdata()) == {seen.point.threshold}
        marks.add(line.get_marker())
    assert len(marks) == 2
    assert not [line for line in ax.lines if line.get_label().startswith("equal error")]


def test_the_error_rates_are_those_of_the_report_at_each_threshold(report):
    ax = error_rates(report)
    for name, rate in (("match rate", "fmr"), ("non-match rate", "fnmr")):
        x, y = curve(ax, f"false {name}")
        rates = getattr(report.accepted, rate).tolist()
        there = dict(zip(report.accepted.threshold.tolist(), rates, strict=True))
        assert y[0] == rates[0]
        assert [there[at] for at in x[1:]] == y[1:].tolist()
        assert len(x) > 0.95 * len(rates)
        assert x[0] < x[1]
    low, high = ax.get_xlim()
    assert low <= x[0] < x[-1] <= high


def test_bands_of_both_error_rates_go_from_end_to_end(report, limits):
    fmr, fnmr = error_rates(report, bands=limits).collections
    for drawn, low, high in (
        (fmr, limits.fmr_low, limits.fmr_high),
        (fnmr, limits.fnmr_low, limits.fnmr_high),
    ):
        heights = drawn.get_paths()[0].vertices[:, 1]
        assert set(low.tolist()) | set(high.tolist()) <= set(heights.tolist())


def test_logarithmic_error_rates_show_one_pair(report):
    ax = error_rates(report, log=True)
    assert ax.get_yscale() == "log"
    assert ax.get_ylim()[0] < 1 / report.impostor


def test_accuracy_at_every_threshold_is_the_share_of_right_answers(report):
    same, distance = pairs(report)
    right, balanced = accuracy(report).lines[0], accuracy(report).lines[2]
    for at, value in zip(right.get_xdata(), right.get_ydata(), strict=True):
        assert value == pytest.approx(accuracy_score(same, distance <= at))
    assert max(balanced.get_ydata()) == pytest.approx(report.balanced_accuracy)


def test_the_best_thresholds_are_marked(report):
    ax = accuracy(report)
    x, y = curve(ax, "balanced, best")
    assert (x.item(), y.item()) == (report.best_threshold, report.balanced_accuracy)
    at, best = curve(ax, "accuracy, best")
    same, distance = pairs(report)
    assert accuracy_score(same, distance <= torch.tensor(at.item())) == pytest.approx(best.item())
    assert best.item() >= report.accuracy


def test_the_accuracy_is_that_which_the_report_carries(report):
    x, y = curve(accuracy(replace(report, best_accuracy=0.5)), "accuracy, best 0.500")
    assert (x.item(), y.item()) == (report.best_accuracy_threshold, 0.5)


def test_a_threshold_of_a_little_more_than_one_is_not_called_one(report):
    near = replace(report, eer_threshold=1.004, best_threshold=1.004)
    assert curve(distance_histogram(near), "equal error rate")[0][0] == 1.004
    for ax in (distance_histogram(near), accuracy(near)):
        assert any(text.get_text().endswith("at 1.004") for text in ax.get_legend().get_texts())
