from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.metrics import accuracy_score, roc_curve

from siamlearn.evaluation import evaluate
from siamlearn.functional import verification
from siamlearn.operating import OperatingPoint
from siamlearn.plots import (
    accuracy,
    cmc,
    det,
    distance_histogram,
    precision_recall,
    roc,
    training_curves,
)

LOG = [
    {"epoch": 1, "loss": 0.9, "val_loss": 1.0},
    {"epoch": 2, "loss": 0.5, "lr": 0.1},
    {"epoch": 3, "loss": 0.4, "val_loss": 0.6},
    {"epoch": 4, "loss": 0.3, "val_loss": 0.7},
]
OF_A_REPORT = [roc, det, precision_recall, accuracy, cmc, distance_histogram]


def curve(ax, start):
    """The points of the one line whose name starts so."""
    (line,) = [line for line in ax.lines if line.get_label().startswith(start)]
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


@pytest.mark.parametrize("draw", OF_A_REPORT, ids=lambda draw: draw.__name__)
def test_a_figure_is_drawn_on_the_axes_it_is_given(report, draw):
    figure = Figure()
    ax = figure.add_subplot()
    assert draw(report, ax=ax) is ax
    assert all([ax.get_title(), ax.get_xlabel(), ax.get_ylabel(), ax.get_legend()])
    figure.draw_without_rendering()


@pytest.mark.parametrize("draw", OF_A_REPORT, ids=lambda draw: draw.__name__)
def test_the_smallest_report_can_be_drawn(embeddings, draw):
    three = evaluate(embeddings.subset([0, 1, 5]), baselines=False)
    draw(three).figure.draw_without_rendering()


@pytest.mark.parametrize("draw", OF_A_REPORT, ids=lambda draw: draw.__name__)
def test_a_net_that_gives_every_picture_the_same_can_be_drawn(embeddings, draw):
    same = replace(embeddings, vectors=torch.zeros_like(embeddings.vectors))
    draw(evaluate(same, baselines=False)).figure.draw_without_rendering()


def test_training_curves_are_the_rows_that_have_the_value():
    ax = training_curves(LOG)
    assert curve(ax, "training")[1].tolist() == [0.9, 0.5, 0.4, 0.3]
    assert curve(ax, "validation")[0].tolist() == [1, 3, 4]
    assert curve(ax, "lowest, epoch 3") == ([3], [0.6])
    assert ax.get_ylim()[0] == 0


def test_other_columns_of_the_log_can_be_drawn():
    assert curve(training_curves(LOG, values=["lr"]), "lr")[1].tolist() == [0.1]


def test_a_loss_below_zero_is_not_cut_off():
    assert training_curves([{"epoch": 1, "loss": -0.5}]).get_ylim()[0] < -0.5


@pytest.mark.parametrize("log", [[], [{"epoch": 1}], [{"epoch": 1, "loss": None}]])
def test_a_log_without_a_loss_is_refused(log):
    with pytest.raises(ValueError, match="a curve needs a row with loss or val_loss"):
        training_curves(log)


def test_the_histogram_is_two_densities_and_a_threshold(report):
    ax = distance_histogram(report, bins=20)
    for patch in ax.patches:
        corners = patch.get_xy()
        areas = np.diff(corners[:, 0]) * corners[1:, 1]
        assert np.abs(areas).sum() == pytest.approx(1, abs=1e-6)
    assert curve(ax, "equal error rate")[0][0] == report.eer_threshold


def test_the_histogram_shows_the_operating_point_of_other_people(embeddings):
    point = OperatingPoint.fit(embeddings.subset(range(10)), fmr=0.2)
    report = evaluate(embeddings.subset(range(10, 20)), point, baselines=False)
    assert curve(distance_histogram(report), "operating point")[0][0] == point.threshold
    x, y = curve(roc(report), "operating point")
    assert (x.item(), y.item()) == (report.fmr, 1 - report.fnmr)


def test_the_roc_is_the_one_of_scikit_learn(report):
    distance = torch.cat([report.genuine, report.impostor])
    same = torch.arange(len(distance)) < len(report.genuine)
    fmr, tmr, _ = roc_curve(same, -distance, drop_intermediate=False)
    x, y = curve(roc(report), "net")
    np.testing.assert_allclose(x, fmr, atol=1e-12)
    np.testing.assert_allclose(y, tmr, atol=1e-12)
    assert f"AUC {report.auc:.3f}" in roc(report).get_legend().get_texts()[0].get_text()


@pytest.mark.parametrize("draw", [roc, det, precision_recall, cmc], ids=lambda draw: draw.__name__)
def test_baselines_are_thin_and_dashed_under_the_report(report, draw):
    ax = draw(report)
    (own,) = [line for line in ax.lines if line.get_label().startswith("net")]
    others = [line for line in ax.lines if line.get_label().startswith(("pixels", "PCA"))]
    assert len(others) == len(report.baselines) == 2
    for line in others:
        assert line.get_linestyle() == "--"
        assert line.get_linewidth() < own.get_linewidth()
        assert line.get_zorder() < own.get_zorder()


def test_the_logarithmic_roc_starts_at_one_impostor_pair(report):
    ax = roc(report, log=True)
    assert ax.get_xscale() == "log"
    assert ax.get_xlim() == pytest.approx((1 / len(report.impostor), 1))


def test_the_det_has_both_error_rates(report):
    seen = verification.rates(report.genuine, report.impostor)
    x, y = curve(det(report), "net")
    np.testing.assert_array_equal(x, seen.fmr)
    np.testing.assert_array_equal(y, seen.fnmr)


def test_precision_and_recall_end_where_every_pair_is_accepted(report):
    ax = precision_recall(report)
    share = len(report.genuine) / (len(report.genuine) + len(report.impostor))
    recall, precision = curve(ax, "net")
    assert (recall[0], precision[0]) == (0, 1)
    assert (recall[-1], precision[-1]) == (1, pytest.approx(share))
    assert curve(ax, "every pair accepted")[1][0] == pytest.approx(share)


def test_accuracy_at_every_threshold_is_the_share_of_right_answers(report):
    distance = torch.cat([report.genuine, report.impostor])
    same = torch.arange(len(distance)) < len(report.genuine)
    right, balanced = accuracy(report).lines[0], accuracy(report).lines[2]
    for at, value in zip(right.get_xdata(), right.get_ydata(), strict=True):
        assert value == pytest.approx(accuracy_score(same, distance <= at))
    assert max(balanced.get_ydata()) == pytest.approx(report.balanced_accuracy)


def test_the_best_thresholds_are_marked(report):
    ax = accuracy(report)
    x, y = curve(ax, "balanced, best")
    assert (x.item(), y.item()) == (report.best_threshold, report.balanced_accuracy)
    at, best = curve(ax, "accuracy, best")
    distance = torch.cat([report.genuine, report.impostor])
    same = torch.arange(len(distance)) < len(report.genuine)
    assert accuracy_score(same, distance <= at.item()) == pytest.approx(best.item())
    assert best.item() >= report.accuracy


def test_the_cmc_counts_ranks_from_one(report):
    ranks, found = curve(cmc(report), "net")
    assert ranks.tolist() == list(range(1, len(report.cmc) + 1))
    assert found.tolist() == list(report.cmc)
    assert f"rank 1: {report.rank1:.1%}" in cmc(report).get_legend().get_texts()[0].get_text()
