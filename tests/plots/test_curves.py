from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy.special import ndtri
from sklearn.metrics import DetCurveDisplay, det_curve, precision_recall_curve, roc_curve

from figures import curve
from siamlearn.comparison import strips
from siamlearn.evaluation import evaluate
from siamlearn.functional.reliability import reliability as measured
from siamlearn.plots import (
    accuracy,
    cmc,
    det,
    distance_histogram,
    error_rates,
    precision_recall,
    reliability,
    roc,
)

CURVES = [roc, det, precision_recall, cmc]
OF_A_REPORT = [*CURVES, accuracy, distance_histogram, error_rates]
named = pytest.mark.parametrize("draw", OF_A_REPORT, ids=lambda draw: draw.__name__)


def pairs(report):
    """Whether each pair is genuine, and its distance."""
    (strip,) = strips(report.embeddings)
    return strip.same[strip.once].numpy(), strip.distance[strip.once].numpy()


@named
def test_a_figure_is_drawn_on_the_axes_it_is_given(report, draw):
    figure = Figure()
    ax = figure.add_subplot()
    assert draw(report, ax=ax) is ax
    assert all([ax.get_title(), ax.get_xlabel(), ax.get_ylabel(), ax.get_legend()])
    figure.draw_without_rendering()


@named
def test_the_smallest_report_can_be_drawn(embeddings, draw):
    three = evaluate(embeddings.subset([0, 1, 5]), baselines=False)
    draw(three).figure.draw_without_rendering()


@named
def test_a_net_that_gives_every_picture_the_same_can_be_drawn(embeddings, draw):
    same = replace(embeddings, vectors=torch.zeros_like(embeddings.vectors))
    draw(evaluate(same, baselines=False)).figure.draw_without_rendering()


@named
def test_a_net_without_any_error_can_be_drawn(embeddings, draw):
    apart = replace(embeddings, vectors=100.0 * embeddings.labels[:, None] + embeddings.vectors)
    draw(evaluate(apart, baselines=False)).figure.draw_without_rendering()


@named
def test_a_report_without_intervals_can_be_drawn(embeddings, draw):
    ax = draw(evaluate(embeddings, baselines=False, resamples=0))
    assert "[" not in "".join(text.get_text() for text in ax.get_legend().get_texts())


@named
def test_no_name_covers_a_curve(report, draw):
    ax = draw(report)
    ax.figure.draw_without_rendering()
    assert ax.get_legend().get_window_extent().y1 < ax.get_window_extent().y0


def test_the_roc_is_the_one_of_scikit_learn(report):
    same, distance = pairs(report)
    fmr, tmr, _ = roc_curve(same, -distance, drop_intermediate=False)
    x, y = curve(roc(report), "net")
    np.testing.assert_allclose(x, fmr, atol=1e-12)
    np.testing.assert_allclose(y, tmr, atol=1e-12)


@pytest.mark.parametrize(
    ("draw", "value"),
    [
        (roc, lambda r: f"AUC {r.auc:.3f} [{r.auc.low:.3f}, {r.auc.high:.3f}]"),
        (det, lambda r: f"EER {r.eer:.1%} [".replace("%", " %") + f"{100 * r.eer.low:.1f}"),
        (cmc, lambda r: f"rank 1: {100 * r.rank1:.1f} % [{100 * r.rank1.low:.1f}, "),
        (precision_recall, lambda r: f"mean {r.average_precision:.3f} ["),
    ],
)
def test_the_legend_says_the_value_with_its_interval_for_the_report_alone(report, draw, value):
    own, *others = [text.get_text() for text in draw(report).get_legend().get_texts()]
    assert own.startswith(f"net, {value(report)}")
    assert all("[" not in other for other in others)


@pytest.mark.parametrize("draw", CURVES, ids=lambda draw: draw.__name__)
def test_baselines_are_thin_and_dashed_under_the_report(report, draw):
    ax = draw(report)
    (own,) = [line for line in ax.lines if line.get_label().startswith("net")]
    names = tuple(baseline.name for baseline in report.baselines)
    others = [line for line in ax.lines if line.get_label().startswith(names)]
    assert len(others) == len(report.baselines) >= 3
    assert len({line.get_color() for line in others}) == len(others)
    for line in others:
        assert line.get_linestyle() == "--"
        assert line.get_linewidth() < own.get_linewidth()
        assert line.get_zorder() < own.get_zorder()


def test_the_logarithmic_roc_starts_at_one_impostor_pair(report):
    ax = roc(report, log=True)
    assert ax.get_xscale() == "log"
    assert ax.get_xlim() == pytest.approx((1 / report.impostor, 1))


def band(ax):
    """Lower and upper end of a band at each place."""
    (drawn,) = ax.collections
    corners = drawn.get_paths()[0].vertices
    return {
        at: (ys.min(), ys.max())
        for at in np.unique(corners[:, 0])
        for ys in [corners[corners[:, 0] == at, 1]]
    }


@pytest.mark.parametrize("draw", [roc, det], ids=lambda draw: draw.__name__)
def test_a_band_goes_from_end_to_end_of_the_intervals(report, limits, draw):
    lost = draw is det
    ends = limits.fnmr_at_low.numpy(), limits.fnmr_at_high.numpy()
    seen = band(draw(report, bands=limits))
    for k in (0, 40, len(limits.at_fmr) - 1):
        low, high = (ends[0][k], ends[1][k]) if lost else (1 - ends[1][k], 1 - ends[0][k])
        drawn = seen[limits.at_fmr[k].item()]
        # At a step the band reaches from the one before to this one.
        assert drawn[0] <= low + 1e-12
        assert drawn[1] >= high - 1e-12


def test_the_det_has_both_error_rates(report):
    for log in (False, True):
        x, y = curve(det(report, log=log), "net")
        np.testing.assert_array_equal(x, report.accepted.fmr)
        np.testing.assert_array_equal(y, report.accepted.fnmr)


def test_the_det_lies_on_the_normal_deviates_of_scikit_learn(report):
    ax = det(report)
    same, distance = pairs(report)
    fmr, fnmr, _ = det_curve(same, -distance)
    theirs = DetCurveDisplay(fpr=fmr, fnr=fnmr).plot(Figure().add_subplot(), name="net").ax_
    rates = np.array([0.01, 0.2, 0.5])
    ours = ax.transScale.transform(np.stack([rates, rates], axis=1))
    np.testing.assert_allclose(ours, np.stack([ndtri(rates)] * 2, axis=1))
    x, y = theirs.lines[0].get_data()
    inside = (x > -2) & (x < 2) & (y > -2) & (y < 2)
    mine = {tuple(np.round(p, 9)) for p in ax.transScale.transform(ax.lines[0].get_xydata())}
    assert inside.any()
    assert {tuple(np.round(p, 9)) for p in np.stack([x, y], axis=1)[inside]} <= mine


def test_the_ticks_of_normal_deviates_are_in_per_cent_and_apart(report):
    ax = det(report)
    ax.figure.draw_without_rendering()
    for axis, limits in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
        ticks = sorted(axis.get_ticklocs())
        assert len(ticks) >= 3
        assert limits[0] <= ticks[0] < ticks[-1] <= limits[1]
        texts = dict(zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True))
        assert all(float(text.get_text()) == 100 * at for at, text in texts.items())
        span = ndtri(limits[1]) - ndtri(limits[0])
        assert np.diff(ndtri(ticks)).min() > span / 11
    assert ax.get_xlabel() == "false match rate, %"


def test_a_curve_outside_the_axes_is_said_to_be(embeddings, report):
    same = replace(embeddings, vectors=torch.zeros_like(embeddings.vectors))
    apart = replace(embeddings, vectors=100.0 * embeddings.labels[:, None] + embeddings.vectors)
    for hidden in (same, apart):
        (text,) = det(evaluate(hidden, baselines=False)).texts
        assert text.get_text() == "the curve lies outside"
    assert not det(report).texts


@pytest.mark.parametrize("draw", [roc, det], ids=lambda draw: draw.__name__)
def test_operating_points_are_marked_each_with_its_name_and_interval(pointed, draw):
    ax = draw(pointed)
    assert len(pointed.points) == 2
    for seen in pointed.points:
        x, y = curve(ax, f"at {seen.point.name}")
        expected = seen.fnmr if draw is det else 1 - seen.fnmr
        assert (x.item(), y.item()) == (seen.fmr, expected)
        across = [
            line for line in ax.lines if list(line.get_xdata()) == [seen.fmr.low, seen.fmr.high]
        ]
        assert across
    marks = {line.get_marker() for line in ax.lines if line.get_label().startswith("at ")}
    assert len(marks) == 2


def test_precision_and_recall_are_those_of_scikit_learn(report):
    ax = precision_recall(report)
    share = report.genuine / (report.genuine + report.impostor)
    recall, precision = curve(ax, "net")
    same, distance = pairs(report)
    theirs = precision_recall_curve(same, -distance.astype(np.float64))
    np.testing.assert_allclose(precision, theirs[0][::-1], atol=1e-12)
    np.testing.assert_allclose(recall, theirs[1][::-1], atol=1e-12)
    assert curve(ax, "every pair accepted")[1][0] == pytest.approx(share)


def test_the_cmc_counts_ranks_from_one_with_bars(report):
    ax = cmc(report)
    ranks, found = curve(ax, "net")
    assert ranks.tolist() == list(range(1, len(report.cmc) + 1))
    assert found.tolist() == list(report.cmc)
    (bars,) = ax.collections
    drawn = [segment[:, 1].tolist() for segment in bars.get_segments()]
    assert drawn == [[rate.low, rate.high] for rate in report.cmc]
    assert ax.get_ylim()[0] <= min(rate.low for rate in report.cmc)


def test_reliability_is_what_was_measured():
    generator = torch.Generator().manual_seed(0)
    probability = torch.rand(500, generator=generator, dtype=torch.float64)
    same = torch.rand(500, generator=generator, dtype=torch.float64) < probability
    found = measured(probability, same, bins=10)
    ax = reliability(found)
    x, y = curve(ax, f"expected calibration error {float(found.error):.3f}")
    assert (x.tolist(), y.tolist()) == (found.predicted.tolist(), found.observed.tolist())
    (dots,) = ax.collections
    assert (np.diff(dots.get_sizes()[found.share.argsort()]) >= 0).all()
    assert ax.get_title() == "Reliability"
    ax = reliability(replace(found, error_ends=(0.0, 0.25)))
    curve(ax, f"expected calibration error {float(found.error):.3f} [0.000, 0.250]")
