import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from siamlearn.comparison import compare
from siamlearn.embeddings import Embeddings
from siamlearn.functional.distances import cosine
from siamlearn.operating import OperatingPoint


def people(count, pictures=4, *, spread=1.0, seed=0, distance=None):
    """Embeddings of people far apart, with pictures that scatter around them."""
    generator = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(count, 8, generator=generator)
    labels = torch.arange(count * pictures) // pictures
    noise = spread * torch.randn(len(labels), 8, generator=generator)
    identities = tuple(f"s{i}" for i in range(count))
    names = tuple(f"{i}.png" for i in range(len(labels)))
    given_distance = {} if distance is None else {"distance": distance}
    return Embeddings(centres[labels] + noise, labels, identities, names, **given_distance)


@settings(max_examples=15)
@given(seed=st.integers(0, 30), fmr=st.sampled_from([0.02, 0.1, 0.3]))
def test_the_threshold_is_the_largest_that_keeps_the_rate(seed, fmr):
    embeddings = people(8, seed=seed)
    found = compare(embeddings)

    point = OperatingPoint.fit(embeddings, fmr=fmr, cross_validated=False)

    assert point.seen_fmr <= fmr
    assert OperatingPoint.fit(embeddings, fmr=fmr).threshold <= point.threshold
    assert point.seen_fmr == point.accepts(found.impostor).double().mean()
    assert point.seen_fnmr == (~point.accepts(found.genuine)).double().mean()
    following = found.impostor[found.impostor > point.threshold].min()
    assert (found.impostor <= following).double().mean() > fmr


def test_on_other_people_the_rate_is_about_what_was_asked():
    # Few people, some of whom look alike: a threshold that fits them lets too many others pass.
    tested = compare(people(60, seed=999)).impostor
    rates = {}
    for cross_validated in (True, False):
        points = (
            OperatingPoint.fit(people(6, seed=seed), fmr=0.02, cross_validated=cross_validated)
            for seed in range(60)
        )
        passed = [point.accepts(tested).double().mean().item() for point in points]
        rates[cross_validated] = sum(passed) / len(passed)

    assert 0.5 < rates[True] / 0.02 < 1.25
    assert rates[False] > 1.4 * 0.02


def test_three_people_are_too_few_to_leave_two_out():
    few = people(3)

    left_alone = OperatingPoint.fit(few, fmr=0.1, cross_validated=False)
    assert OperatingPoint.fit(few, fmr=0.1) == left_alone


def test_it_remembers_what_it_was_chosen_on():
    point = OperatingPoint.fit(people(8, pictures=3), fmr=0.1, name="the door")

    assert (point.name, point.fmr) == ("the door", 0.1)
    assert (len(point.people), point.pictures, point.genuine) == (8, 24, 8 * 3)
    assert point.impostor == 24 * 23 // 2 - point.genuine
    assert str(point) == "the door, chosen on 8 people"
    assert OperatingPoint.fit(people(8), fmr=0.1).name == "FMR 10 %"


def test_it_knows_people_again_without_knowing_their_names():
    point = OperatingPoint.fit(people(4), fmr=0.1)

    assert point.seen(["s9", "s3", "s0"]) == ("s3", "s0")
    assert "s3" not in json.dumps(point.to_dict())


def test_pictures_of_one_each_give_a_threshold_but_no_fnmr():
    assert OperatingPoint.fit(people(20, pictures=1), fmr=0.1).seen_fnmr is None


def test_a_constant_scorer_accepts_nobody():
    same = people(6)
    constant = Embeddings(torch.zeros(24, 2), same.labels, same.identities, same.names)

    point = OperatingPoint.fit(constant, fmr=0.1)

    assert (point.seen_fmr, point.seen_fnmr) == (0, 1)
    assert not point.accepts(0.0)


def test_a_rate_that_the_pairs_cannot_resolve_is_refused():
    with pytest.raises(ValueError, match=r"FMR 0.0001 cannot be read from 448 impostor pairs"):
        OperatingPoint.fit(people(8), fmr=1e-4)


@pytest.mark.parametrize("fmr", [0, 1, -0.1, float("nan")])
def test_a_rate_that_is_no_rate_is_refused(fmr):
    with pytest.raises(ValueError, match="fmr must be above 0 and below 1"):
        OperatingPoint.fit(people(8), fmr=fmr)


def test_one_person_is_too_few():
    with pytest.raises(ValueError, match="at least two people, got 1"):
        OperatingPoint.fit(people(1))


def test_a_pair_is_accepted_alike_as_number_and_as_tensor():
    # 0.3 in float32 is a little more than the number 0.3.
    distance = torch.tensor([0.3])
    point = OperatingPoint("", 0.3, 0.1, 0.1, None, (), 2, 0, 1)

    assert point.accepts(distance).item() is point.accepts(distance.item()) is False


@pytest.mark.parametrize("distance", [None, cosine])
def test_save_and_load_give_the_same_point(tmp_path, distance):
    point = OperatingPoint.fit(people(8, distance=distance), fmr=0.1)

    assert OperatingPoint.load(point.save(tmp_path / "point.json")) == point
    assert OperatingPoint.from_dict(point.to_dict()) == point


def test_a_distance_of_ones_own_is_passed_again_on_loading(tmp_path):
    def blocks(queries, references):
        return torch.cdist(queries, references, p=1)

    path = OperatingPoint.fit(people(8, distance=blocks), fmr=0.1).save(tmp_path / "point.json")

    with pytest.raises(ValueError, match="got 'blocks'; pass the function itself as distance="):
        OperatingPoint.load(path)
    assert OperatingPoint.load(path, distance=blocks).distance is blocks


def test_what_is_no_point_is_refused(tmp_path):
    path = OperatingPoint.fit(people(8), fmr=0.1).save(tmp_path / "point.json")
    values = json.loads(path.read_text())

    with pytest.raises(ValueError, match="must be of format 1 to 2, got 3"):
        OperatingPoint.from_dict({**values, "format": 3})
    with pytest.raises(ValueError, match="no whole operating point: 'people'"):
        OperatingPoint.from_dict({k: v for k, v in values.items() if k != "people"})
    with pytest.raises(ValueError, match=r"no whole operating point: .*colour"):
        OperatingPoint.from_dict({**values, "colour": 1})
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match="must be a JSON file with an operating point"):
        OperatingPoint.load(path)
