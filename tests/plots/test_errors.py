from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from siamlearn import inspection
from siamlearn.data.drawn import DrawnFaces
from siamlearn.embeddings import embed
from siamlearn.evaluation import evaluate
from siamlearn.inspection import PeopleDistances, Zoo
from siamlearn.plots import confusions, people_distances, worst_pairs, zoo


@pytest.fixture(scope="module")
def crowd():
    people = embed(torch.nn.Flatten(), DrawnFaces(50, 2, size=(28, 23)))
    return evaluate(people, baselines=False, audit=False, resamples=0)


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_each_figure_is_drawn_on_the_axes_it_is_given(report, images):
    for draw, found in (
        (worst_pairs, inspection.worst_pairs(report)),
        (zoo, inspection.zoo(report)),
        (people_distances, inspection.people_distances(report)),
        (lambda groups, ax: confusions(groups, images, ax=ax), [("anna", "dan")]),
    ):
        figure = Figure(layout="constrained")
        ax = figure.add_subplot()
        assert draw(found, ax=ax) is ax
        figure.draw_without_rendering()


def test_the_worst_pairs_are_side_by_side_with_names_people_and_distance(report, images):
    found = inspection.worst_pairs(report, count=3)
    ax = worst_pairs(found)
    shown = texts(ax)
    assert len(ax.images) == 2 * 6
    pictures = iter(ax.images)
    for pair in found.genuine + found.impostor:
        names = []
        for place in (pair.probe, pair.reference):
            pixels = next(pictures).get_array()[..., 0]
            np.testing.assert_array_equal(pixels, images.pixels[place, 0])
            names.append(images.identities[images.labels[place]])
            assert images.names[place] in shown
        people = " | ".join(dict.fromkeys(names))
        assert f"{people}  {pair.distance:#.3g}" in shown
    assert shown[-2:] == ["one person, farthest apart", "two people, nearest"]


def test_no_two_pictures_of_the_worst_pairs_overlap_and_all_are_within_the_axes(report):
    ax = worst_pairs(inspection.worst_pairs(report, count=7))
    boxes = [image.get_extent() for image in ax.images]
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    for k, (x0, x1, y0, y1) in enumerate(boxes):
        assert left <= x0 < x1 <= right
        assert bottom <= y0 < y1 <= top
        for a0, a1, b0, b1 in boxes[:k]:
            assert x1 <= a0 or a1 <= x0 or y1 <= b0 or b1 <= y0


def test_pairs_without_pictures_are_refused_in_words(report):
    found = inspection.worst_pairs(report)
    bare = replace(found, references=replace(found.references, images=None))
    with pytest.raises(ValueError, match="pairs can be shown only where the embeddings have"):
        worst_pairs(bare)
    with pytest.raises(ValueError, match="there must be at least one pair to show"):
        worst_pairs(replace(found, genuine=(), impostor=()))


def test_the_zoo_has_everybody_at_their_place_by_kind(crowd):
    seen = inspection.zoo(crowd)
    ax = zoo(seen)
    counts = {}
    for dots in ax.collections:
        count, kind = dots.get_label().split()
        singular = kind if kind == "sheep" else kind.removesuffix("s")
        counts[singular] = int(count)
        places = torch.tensor(np.asarray(dots.get_offsets()))
        who = [k for k, own in enumerate(seen.kinds) if own == singular]
        assert torch.equal(places, torch.stack([seen.genuine, seen.impostor], dim=1)[who])
    assert counts == {kind: seen.kinds.count(kind) for kind in set(seen.kinds)}
    for corner in ("doves", "phantoms", "chameleons", "worms"):
        assert corner in texts(ax)


def test_people_with_most_errors_are_named_in_the_zoo(crowd):
    seen = inspection.zoo(crowd)
    names = texts(zoo(seen, names=5))[4:]
    assert 0 < len(names) <= 5
    errors = dict(zip(seen.names, (seen.fnmr + seen.fmr).tolist(), strict=True))
    assert set(names) <= set(sorted(errors, key=errors.get, reverse=True)[:15])


def test_a_zoo_of_equal_people_has_room_around_them():
    same = torch.zeros(4, dtype=torch.float64)
    seen = Zoo(("a", "b", "c", "d"), same, same, same, same, same, ("sheep",) * 4, 0.5)
    assert zoo(seen).get_xlim() == zoo(seen).get_ylim() == (-0.5, 0.5)


def test_a_zoo_without_anybody_is_refused_in_words():
    one = torch.full((2,), torch.nan)
    seen = Zoo(("a", "b"), one, one, one, one, one, ("unknown",) * 2, 0.5)
    with pytest.raises(ValueError, match="needs a person with two pictures, beside other people"):
        zoo(seen)


def test_the_matrix_shows_the_distances_in_their_order(report):
    found = inspection.people_distances(report)
    for nearest, values in ((False, found.mean), (True, found.nearest)):
        ax = people_distances(found, nearest=nearest)
        np.testing.assert_array_equal(ax.images[0].get_array(), values)
        for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
            assert [label.get_text() for label in labels] == list(found.names)
    assert ax.get_title() == "Smallest distance between people"


def test_a_matrix_of_a_crowd_is_unnamed(crowd):
    ax = people_distances(inspection.people_distances(crowd))
    assert not ax.get_xticklabels()


def test_names_beside_the_largest_named_matrix_do_not_overlap():
    names = tuple(f"person {k}" for k in range(45))
    ax = people_distances(PeopleDistances(names, torch.rand(45, 45), torch.rand(45, 45)))
    ax.figure.draw_without_rendering()
    for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
        boxes = [label.get_window_extent() for label in labels]
        assert len(boxes) == 45
        pairs = pairwise(boxes)
        assert not any(one.overlaps(other) for one, other in pairs)


def test_confusions_are_rows_of_portraits_with_names(images):
    ax = confusions([("anna", "cleo", "dan"), ("bob", "cleo")], images)
    assert texts(ax) == ["anna", "cleo", "dan", "bob", "cleo"]
    for image, k in zip(ax.images, (0, 10, 15, 5, 10), strict=True):
        np.testing.assert_array_equal(image.get_array()[..., 0], images.pixels[k, 0])
    assert ax.get_title(loc="left") == "2 groups of people who pass for each other"


def test_of_many_confusions_the_rest_is_told(images):
    people = images.identities
    ax = confusions([people, people[:2], people[2:]], images, rows=2, columns=3)
    assert texts(ax) == ["anna", "bob", "cleo", "and 1\nmore", "anna", "bob"]
    assert ax.get_title(loc="left").endswith("each other, the largest 2")


def test_where_there_is_no_group_single_pairs_may_pass_and_the_figure_denies_none(images):
    ax = confusions([], images)
    assert ax.get_title(loc="left") == "Of no two people enough pairs pass"
