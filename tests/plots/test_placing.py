import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from siamlearn.plots.canvas import canvas
from siamlearn.plots.placing import labelled, settled, spread

places = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12)


@settings(max_examples=20)
@given(places=places)
def test_names_cover_neither_points_nor_each_other_nor_leave_the_axes(places):
    ax = canvas(None, size=(4, 3))
    points = torch.tensor(places)
    written = labelled(ax, points, [f"person {k}" for k in range(len(places))])

    assert [text.get_text() for text in ax.texts] == written
    boxes = [text.get_window_extent() for text in ax.texts]
    inside = ax.get_window_extent()
    for k, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:k])
        assert inside.x0 <= box.x0 < box.x1 <= inside.x1
        assert inside.y0 <= box.y0 < box.y1 <= inside.y1
        assert not any(box.contains(*dot) for dot in ax.transData.transform(points.numpy()))


def test_a_lonely_point_gets_its_name_beside_it():
    ax = canvas(None)
    assert labelled(ax, torch.tensor([[0.5, 0.5]]), ["anna"]) == ["anna"]
    box = ax.texts[0].get_window_extent()
    x, y = ax.transData.transform((0.5, 0.5))
    assert 0 < box.x0 - x < 20
    assert box.y0 < y < box.y1


def test_who_comes_first_is_named_where_there_is_no_room_for_all():
    ax = canvas(None)
    crowd = torch.full((40, 2), 0.5)
    names = [f"person {k}" for k in range(40)]
    written = labelled(ax, crowd, names)
    assert written[0] == "person 0"
    assert 0 < len(written) < 40
    assert labelled(canvas(None), crowd, names, most=2) == names[:2]


@settings(max_examples=20)
@given(places=places)
def test_pictures_that_are_kept_are_apart_and_no_other_would_fit(places):
    ax = Figure(figsize=(4, 3)).add_subplot()
    points = torch.tensor(places)
    taken = spread(ax, points, (30, 40), order=range(len(points)))

    place = torch.from_numpy(ax.transData.transform(points.numpy())) * 72 / ax.figure.dpi

    def free(k, others):
        apart = (place[others] - place[k]).abs() >= torch.tensor([30, 40])
        return bool(apart.any(dim=1).all())

    assert all(free(k, [other for other in taken if other != k]) for k in taken)
    assert not any(free(k, taken) for k in range(len(points)) if k not in taken)


def test_axes_on_part_of_a_figure_are_settled():
    part = Figure(layout="constrained").subfigures(1, 2)[0]
    settled(part.subplots())


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_whose_turn_it_is_takes_the_place(order):
    ax = canvas(None)
    assert spread(ax, torch.full((2, 2), 0.5), (10, 10), order=order) == order[:1]
