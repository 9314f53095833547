import pytest
import torch

from siamlearn import inspection
from siamlearn.comparison import compare
from siamlearn.embeddings import Embeddings
from siamlearn.evaluation import evaluate
from siamlearn.functional.calibration import least_cost
from siamlearn.functional.reliability import reliability
from siamlearn.functional.resampling import draws
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


def test_the_calibration_error_has_an_interval_over_people():
    others, people = (scattered_embeddings(n, prefix=p) for n, p in ((9, "other"), (30, "s")))
    point = OperatingPoint.fit(others, fmr=0.1)
    report = evaluate(people, point, baselines=False)
    found = inspection.reliability(report, bins=5)

    low, high = found.error_ends
    assert 0 <= low <= found.error <= high
    # By the straight loop: the bins stay, the pairs count as often as their people were drawn.
    weights, pairs = draws(30, 1000), compare(people)
    distance = torch.cdist(people.vectors, people.vectors)
    once = torch.ones_like(distance).triu(1).bool()
    one, other = once.nonzero(as_tuple=True)
    same = people.labels[one] == people.labels[other]
    said = point.calibration.probability(distance[once].double())
    ends = said.new_tensor([said[b].min() for b in binned(said, same, 5)][1:])
    bins, errors = torch.bucketize(said, ends, right=True), []
    for drawn in weights[:300]:
        left, right = drawn[people.labels[one]], drawn[people.labels[other]]
        times = torch.where(same, left, left * right)
        mass = torch.where(same, times / times[same].sum(), times / times[~same].sum()) / 2
        errors.append(sum(abs((mass * (said - same.double()))[bins == b].sum()) for b in range(5)))
    spread, bias = torch.stack(errors).std(), torch.stack(errors).mean() - found.error
    reach = 2.0452 * spread
    assert len(pairs.genuine) == same.sum()
    assert high == pytest.approx(float(found.error - bias + reach), rel=0.1)
    assert low == pytest.approx(max(0.0, float(found.error - bias - reach)), abs=0.1 * float(reach))

    alone = evaluate(people, point, baselines=False, resamples=0)
    assert inspection.reliability(alone, bins=5).error_ends is None
    assert inspection.reliability(alone, bins=5).error == found.error


def binned(said, same, bins):
    """Which pairs are in each bin of equal weight."""
    mass = torch.where(same, 0.5 / same.sum(), 0.5 / (~same).sum()).double()
    order = said.argsort()
    place = ((mass[order].cumsum(0) - mass[order] / 2) * bins).long().clamp(0, bins - 1)
    return [order[place == b] for b in range(bins)]


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
