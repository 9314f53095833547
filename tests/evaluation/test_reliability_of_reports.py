import pytest
import torch

from siamlearn import inspection
from siamlearn.comparison import compare
from siamlearn.embeddings import Embeddings
from siamlearn.evaluation import evaluate
from siamlearn.functional.calibration import least_cost
from siamlearn.functional.reliability import reliability
from siamlearn.operating import OperatingPoint


def scattered_embeddings(people, pictures=5, *, prefix="s"):
    generator = torch.Generator().manual_seed(len(prefix))
    labels = torch.arange(people * pictures) // pictures
    centres = 2 * torch.randn(people, 4, generator=generator)
    return Embeddings(
        centres[labels] + torch.randn(len(labels), 4, generator=generator),
        labels,
        tuple(f"{prefix}{i}" for i in range(people)),
        tuple(f"{i}.png" for i in range(len(labels))),
    )


def test_reliability_read_off_counts_equals_that_of_single_pairs():
    others, people = (scattered_embeddings(9, prefix=prefix) for prefix in ("other", "s"))
    point = OperatingPoint.fit(others, fmr=0.1)
    report = evaluate(people, point, baselines=False)

    found = inspection.reliability(report, bins=1)

    pairs = compare(people)
    distance = torch.cat([pairs.genuine, pairs.impostor]).double()
    same = torch.arange(len(distance)) < len(pairs.genuine)
    expected = reliability(point.calibration.probability(distance), same, bins=1, prior=0.5)
    torch.testing.assert_close(found.predicted, expected.predicted)
    torch.testing.assert_close(found.observed, expected.observed)
    assert found.count.tolist() == [len(distance)]
    several = inspection.reliability(report, bins=5)
    assert several.share.sum().item() == pytest.approx(1)
    assert (several.predicted.diff() > 0).all()
    assert (several.share * several.observed).sum().item() == pytest.approx(0.5)


def test_without_a_calibration_there_is_no_reliability():
    with pytest.raises(ValueError, match="none of the 0 operating points"):
        inspection.reliability(evaluate(scattered_embeddings(4), baselines=False))


def test_the_cost_of_probabilities_is_reported_beside_the_least_there_could_be():
    others, people = (scattered_embeddings(9, prefix=prefix) for prefix in ("other", "s"))
    point = OperatingPoint.fit(others, fmr=0.1)

    report = evaluate(people, point, baselines=False)

    (seen,) = report.points
    assert seen.cllr == point.calibration.cllr(report.accepted).item()
    assert seen.least_cllr == least_cost(report.accepted).item()
    assert 0 <= seen.cllr.low <= seen.cllr <= seen.cllr.high
    assert seen.least_cllr <= seen.cllr
    assert f"Cllr {seen.cllr} bits (at best {seen.least_cllr:.4g})" in str(report)
    assert report.to_dict()["points"][0]["cllr"]["value"] == seen.cllr
