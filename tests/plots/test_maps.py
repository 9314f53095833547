from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox

from siamlearn.data.drawn import DrawnFaces
from siamlearn.embeddings import Embeddings, embed
from siamlearn.inspection import Map, directions, pca_map
from siamlearn.plots import embedding_map, embedding_maps


def crowd(people, dimensions):
    generator = torch.Generator().manual_seed(0)
    names = tuple(f"person {k}" for k in range(people))
    vectors = torch.randn(2 * people, dimensions, generator=generator)
    return Embeddings(vectors, torch.arange(people).repeat(2), names, names + names)


def test_a_map_has_each_picture_in_the_colour_of_its_person(embeddings):
    ax = Figure().add_subplot()
    assert embedding_map(embeddings, (1, 0), ax=ax) is ax
    assert len(ax.collections) == 4
    colours = set()
    for label, dots in enumerate(ax.collections):
        expected = embeddings.vectors[embeddings.labels == label].flip(1)
        np.testing.assert_allclose(dots.get_offsets(), expected)
        colours.add(tuple(dots.get_facecolor()[0]))
    assert len(colours) == 4
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [*embeddings.people]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("dimension 2", "dimension 1")


def test_a_map_can_lie_along_the_principal_axes(embeddings):
    points = torch.cat(list(map(offsets, embedding_map(embeddings, None).collections)))
    values = torch.linalg.eigvalsh(embeddings.vectors.double().T.cov()).flip(0)
    torch.testing.assert_close(points.var(dim=0), values, atol=1e-5, rtol=1e-5)


def offsets(dots):
    return torch.tensor(np.asarray(dots.get_offsets()), dtype=torch.float64)


@pytest.mark.parametrize(("dimensions", "panels"), [(1, 1), (2, 1), (3, 2), (7, 4), (12, 6)])
def test_few_dimensions_are_drawn_as_they_are(dimensions, panels):
    axes = embedding_maps(crowd(9, dimensions)).axes
    assert len(axes) == panels
    assert axes[0].get_xlabel() == "dimension 1"
    assert axes[-1].get_ylabel() == f"dimension {dimensions}"


def test_many_dimensions_are_drawn_along_their_principal_axes():
    axes = embedding_maps(crowd(9, 64), panels=4).axes
    assert len(axes) == 4
    assert axes[0].get_xlabel().startswith("principal axis 1 (")
    assert axes[-1].get_ylabel().startswith("principal axis 8 (")


def test_maps_of_directions_that_were_found_before_are_those_of_the_embeddings():
    people = crowd(9, 64)
    for axes, same in zip(
        embedding_maps(directions(people, most=8), panels=4).axes,
        embedding_maps(people, panels=4).axes,
        strict=True,
    ):
        assert axes.get_xlabel() == same.get_xlabel()
        assert torch.equal(*(torch.cat([*map(offsets, ax.collections)]) for ax in (axes, same)))


def test_directions_are_those_of_the_plane_of_the_map():
    people = crowd(9, 64)
    first = directions(people)
    assert torch.equal(first.points[:, :2], pca_map(people).points)
    assert first.axes[:2] == pca_map(people).axes
    assert len(first.axes) == first.points.shape[1] == 17  # 18 points span 17 axes


@pytest.mark.parametrize("people", [1, 9, 40, 60])
def test_up_to_sixty_people_have_their_name_in_the_legend(people):
    figure = embedding_maps(crowd(people, 4))
    assert len(figure.legends[0].get_texts()) == people
    figure.draw_without_rendering()


def test_a_crowd_is_drawn_whole_and_unnamed():
    figure = embedding_maps(crowd(500, 4))
    assert not figure.legends
    assert sum(len(dots.get_offsets()) for dots in figure.axes[0].collections) == 1000
    assert embedding_map(crowd(500, 4)).get_legend() is None


def test_a_map_of_a_subset_names_only_its_people(embeddings):
    some = embeddings.subset([5, 6, 15])
    legend = embedding_map(some).get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["bob", "dan"]


def test_pictures_are_not_needed_for_a_map(embeddings):
    assert len(embedding_map(replace(embeddings, images=None)).collections) == 4


def test_a_map_laid_out_elsewhere_is_drawn_as_it_is(embeddings):
    points = embeddings.vectors * 3
    ax = embedding_map(Map(points, ("", ""), "t-SNE", embeddings))
    drawn = np.concatenate([dots.get_offsets() for dots in ax.collections])
    np.testing.assert_allclose(drawn, points)
    assert ax.get_title() == "Embeddings of 20 pictures of 4 people, by t-SNE"
    assert not ax.get_xticks().size  # places along axes that mean nothing
    assert embedding_map(pca_map(embeddings)).get_xlabel().startswith("principal axis 1")


def portraits(ax):
    ax.figure.draw_without_rendering()
    return [box for box in ax.artists if isinstance(box, AnnotationBbox)]


def test_pictures_stand_at_their_points_and_none_covers_another():
    people = embed(torch.nn.Flatten(), DrawnFaces(12, 5, size=(28, 23)))
    ax = embedding_map(people, None, pictures=24)
    drawn = portraits(ax)
    assert 12 < len(drawn) < 60
    points = pca_map(people).points
    boxes = [box.get_window_extent() for box in drawn]
    for k, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:k])
        assert (points - torch.tensor(drawn[k].xy)).norm(dim=1).min() < 1e-5
    inside = ax.get_window_extent()
    for box in boxes:
        assert inside.x0 < box.x0 < box.x1 < inside.x1
        assert inside.y0 < box.y0 < box.y1 < inside.y1


def test_wide_pictures_stay_within_the_axes():
    people = embed(torch.nn.Flatten(), DrawnFaces(3, 2, size=(20, 60)))
    ax = embedding_map(people, None, pictures=30)
    inside = ax.get_window_extent()
    for box in [drawn.get_window_extent() for drawn in portraits(ax)]:
        assert inside.x0 < box.x0 < box.x1 < inside.x1


def test_everybody_is_pictured_before_anybody_is_twice(images, embeddings):
    # All at the corners of a square: of each person there is room for one picture.
    corners = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    still = replace(embeddings, vectors=corners[images.labels])
    drawn = portraits(embedding_map(still, pictures=24))
    assert len(drawn) == 4
    for box, k in zip(drawn, (0, 5, 10, 15), strict=True):
        shown = box.offsetbox.get_children()[0].get_array()
        np.testing.assert_array_equal(shown[..., 0], images.pixels[k, 0])


def test_larger_pictures_are_fewer():
    people = embed(torch.nn.Flatten(), DrawnFaces(6, 5, size=(28, 23)))
    few, many = (len(portraits(embedding_map(people, None, pictures=p))) for p in (90, 16))
    assert few < many


def test_pictures_that_are_not_there_are_refused_in_words(embeddings):
    with pytest.raises(ValueError, match="pictures can be drawn only where the embeddings have"):
        embedding_map(replace(embeddings, images=None), pictures=24)
