"""Pictures that look like somebody else's."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import siamlearn as sl


def people(persons=12, each=6, spread=0.4, seed=0):
    """Embeddings of people who are well apart."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(persons, 16, generator=generator)
    labels = torch.arange(persons).repeat_interleave(each)
    noise = spread * torch.randn(persons * each, 16, generator=generator)
    identities = tuple(f"p{person}" for person in range(persons))
    names = tuple(f"{identities[label]}/{index}" for index, label in enumerate(labels.tolist()))
    return sl.Embeddings(centres[labels] + noise, labels, identities, names)


def suspected(*args, **kwargs):
    found = [found for found in sl.audit(*args, **kwargs) if found.kind == "suspected-labels"]
    return {example.split(" ")[0]: example for finding in found for example in finding.examples}


@settings(max_examples=20)
@given(
    wrong=st.lists(st.integers(0, 11), unique=True, max_size=3),
    step=st.integers(1, 11),
    order=st.permutations(range(72)),
)
def test_wrong_labels_are_suspected_with_the_right_name_in_any_order(wrong, step, order):
    right = people()
    labels = right.labels.clone()
    at = [6 * person + 2 for person in wrong]
    labels[at] = (labels[at] + step) % 12

    found = suspected(replace(right, labels=labels).subset(order))

    expected = {
        right.names[place]: f"{right.names[place]} (p{(person + step) % 12}; p{person}?)"
        for place, person in zip(at, wrong, strict=True)
    }
    assert found == expected


@pytest.mark.parametrize("distance", [sl.cosine, sl.squared_euclidean, sl.signal_to_noise])
def test_any_distance_will_do(distance):
    right = replace(people(), distance=distance)
    labels = right.labels.clone()
    labels[0] = 5

    assert suspected(right) == {}
    assert [*suspected(replace(right, labels=labels))] == [right.names[0]]


def test_a_picture_that_is_like_nobody_is_not_suspected():
    right = people()
    vectors = right.vectors.clone()
    # Far away, but twice as near to the second person as to the first, whose it is.
    vectors[0] = vectors[6:12].mean(0) + 1.2 * (vectors[6:12].mean(0) - vectors[1:6].mean(0))

    assert suspected(replace(right, vectors=vectors)) == {}


def test_embeddings_that_confuse_people_judge_nobody():
    weak = people(spread=4.0)

    audit = sl.audit(weak)
    assert audit.findings == ()
    assert any(what.startswith("labels of test") for what in audit.unchecked)


def test_people_with_two_pictures_are_left_out():
    audit = sl.audit(people(each=2))

    assert any(what.startswith("labels of test") for what in audit.unchecked)


def test_pictures_alone_give_a_note_only(att_faces_root):
    faces = sl.ATTFaces(att_faces_root).only([f"s{number}" for number in range(32, 41)])
    labels = faces.labels.clone()
    labels[0] = labels[45]
    wrong = sl.ImageSet(faces.pixels, labels, identities=faces.identities, names=faces.names)

    audit = sl.audit(images=wrong)

    assert sl.audit(images=faces).findings == ()
    assert audit.clean
    assert audit.kinds == ("suspected-labels",)
    assert audit.findings[0].examples == ("s32/1.pgm (s36; s32?)",)
