"""What the first line of a report claims, and what it must not."""

from dataclasses import replace

import pytest
import torch

import siamlearn as sl
from siamlearn.auditing import Audit, Finding, Severity
from siamlearn.evaluation.judgement import standing
from siamlearn.evaluation.reports import Difference
from siamlearn.known import known
from siamlearn.report.words import said


def scattered(*, noise=0.3, trained_on=(), people=8):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4 * people) // 4
    centres = 2 * torch.randn(people, 4, generator=generator)
    vectors = centres[labels] + noise * torch.randn(len(labels), 4, generator=generator)
    names = tuple(f"s{i}" for i in range(people)), tuple(f"{i}.png" for i in range(len(labels)))
    return sl.Embeddings(vectors, labels, *names, trained_on=known(trained_on))


def beside(*differences, resamples=200):
    """A report with a baseline for each of these, the best first, and its difference from them."""
    report = sl.evaluate(scattered(), resamples=resamples)
    baselines = tuple(
        replace(report, name=f"simple {i}", auc=sl.Estimate(0.9 - 0.01 * i))
        for i in range(len(differences))
    )
    found = tuple(
        Difference("net", f"simple {i}", "AUC", sl.Estimate(0.1, low, 0.2), 0.01)
        for i, low in enumerate(differences)
        if low is not None
    )
    return replace(report, baselines=baselines, differences=found)


def test_without_resamples_nothing_is_better():
    report = beside(None, None, resamples=0)

    assert standing(report).place == "unknown"
    first = str(report).splitlines()[0]
    assert first.startswith("not known whether net is better than simple 0: no resamples: AUC ")
    assert said(report).headline == "not known whether net is better than simple 0: no resamples"
    assert said(report).tone == "plain"


def test_better_than_every_baseline_is_tested_against_every_baseline():
    # Clearly above the one with the highest AUC, and perhaps level with a less steady one.
    report = beside(0.02, -0.03)

    assert standing(report).place == "level"
    assert report.verdict.startswith("net is not clearly better than simple 1: AUC ")
    assert "a difference of +0.1 [-0.03, +0.2]" in report.verdict
    assert said(report).headline == "net is not clearly better than simple 1"


def test_who_is_clearly_above_all_baselines_is_told_so():
    report = beside(0.02, 0.01)

    assert standing(report).place == "above"
    assert "better than every baseline, the best, simple 0: AUC" in report.verdict
    assert said(report).headline == "net beats every baseline"


def test_a_baseline_of_which_no_difference_is_known_is_not_beaten():
    assert standing(beside(0.02, None)).place == "unknown"


@pytest.mark.parametrize("resamples", [0, 200])
def test_the_first_line_says_when_the_net_was_trained_on_those_who_are_tested(resamples):
    report = sl.evaluate(scattered(trained_on=["s0", "s1"]), resamples=resamples, audit=False)

    first = str(report).splitlines()[0]
    assert first.startswith("! The net was trained on 2 of the 8 people. net: AUC")
    assert sl.report.markdown(report).startswith("**! The net was trained on 2 of the 8 people.")


def test_the_first_line_says_when_the_audit_found_an_error():
    def found(kind, severity):
        return Finding(kind, severity, ("test",), "what", 1, (), "advice")

    error, warning = found("copies", Severity.ERROR), found("ties", Severity.WARNING)
    report = sl.evaluate(scattered(), resamples=0)
    wrong, doubtful = (replace(report, audit=Audit(each, ())) for each in ((error,), (warning,)))

    assert wrong.verdict.startswith("! The audit found 1 error (copies). net: AUC")
    assert doubtful.verdict.startswith("net: AUC")
    assert said(wrong, wrong.audit).lines[-1].startswith("The audit found 1 error (copies): read")
    learned = replace(wrong, trained_on=3)
    assert learned.verdict.startswith(
        "! The net was trained on 3 of the 8 people; the audit found 1 error (copies). net:"
    )


@pytest.mark.parametrize(
    ("what", "value", "says"),
    [
        ("AUC", (0.1, 0.05, 0.2), "one is better"),
        ("AUC", (-0.1, -0.2, -0.05), "two is better"),
        ("rank-1", (0.1, 0.05, 0.2), "one is better"),
        ("EER", (0.1, 0.05, 0.2), "two is better"),
        ("FNMR at FMR 1 %", (-0.1, -0.2, -0.05), "one is better"),
        ("EER", (-0.1, -0.2, 0.05), "may be chance"),
        ("AUC", (0.1, float("nan"), float("nan")), "may be chance"),
    ],
)
def test_of_errors_less_is_better_and_a_difference_says_who(what, value, says):
    assert Difference("one", "two", what, sl.Estimate(*value), 0.01).says == says
