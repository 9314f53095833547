from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from siamlearn.data.image_set import ImageSet
from siamlearn.embeddings import Embeddings
from siamlearn.gallery import Match
from siamlearn.plots import embedding_map, embedding_maps, faces, matches


def crowd(people, dimensions):
    generator = torch.Generator().manual_seed(0)
    names = tuple(f"person {k}" for k in range(people))
    vectors = torch.randn(2 * people, dimensions, generator=generator)
    return Embeddings(vectors, torch.arange(people).repeat(2), names, names + names)


def test_the_contact_sheet_has_a_row_for_each_person(images):
    ax = faces(images, people=3, pictures=2)
    sheet = ax.images[0].get_array()
    assert [name.get_text() for name in ax.get_yticklabels()] == ["anna", "bob", "cleo"]
    height, width = sheet.shape[0] // 3, sheet.shape[1] // 2
    for row, k in enumerate([0, 5, 10]):
        shown = sheet[row * height : row * height + 12, width : width + 10]
        np.testing.assert_array_equal(shown.reshape(12, 10), images.pixels[k + 1, 0])


def test_the_contact_sheet_names_the_people_of_a_subset(images):
    ax = faces(images.only(["dan", "bob"]))
    assert [name.get_text() for name in ax.get_yticklabels()] == ["bob", "dan"]


def test_the_contact_sheet_shows_colours():
    pixels = torch.zeros(2, 3, 20, 20, dtype=torch.uint8)
    pixels[0, 0] = 200
    red = ImageSet(pixels, torch.tensor([0, 1]), identities=["a", "b"], names=["1", "2"])
    assert faces(red).images[0].get_array()[0, 0].tolist() == [200, 0, 0]


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


def titles(figure):
    return [ax.get_title() for ax in figure.axes if ax.axison]


def test_answers_are_marked_right_or_wrong(images):
    enrolled = images.only(["anna", "bob"])
    probes = images.subset([1, 6, 2, 11, 16])
    found = [
        Match("anna", 0.25, "bob", 0.9, threshold=0.5),
        Match("anna", 0.45, "bob", 0.5, threshold=0.5),
        Match(None, 0.75, "bob", 0.9, threshold=0.5, nearest="anna"),
        Match(None, 0.75, "bob", 0.9, threshold=0.5, nearest="anna"),
        Match("bob", 0.5, None, None, threshold=0.5),
    ]
    figure = matches(probes, found, enrolled)
    assert titles(figure)[1::3] == [
        "✓ anna\n0.25 ≤ 0.50",
        "✗ anna\n0.45 ≤ 0.50",
        "✗ nobody\nanna: 0.75 > 0.50",
        "✓ nobody\nanna: 0.75 > 0.50",
        "✗ bob\n0.50 ≤ 0.50",
    ]
    assert titles(figure)[2::3] == ["next: bob\n0.90", "next: bob\n0.50"] + 2 * ["next: bob\n0.90"]
    figure.draw_without_rendering()


def test_the_person_found_is_shown_by_the_first_enrolled_picture(images):
    match = Match("bob", 0.1, "anna", 0.9, threshold=0.5)
    asked, best, second = matches(images.subset([7]), [match], images).axes
    for ax, k in ((asked, 7), (best, 5), (second, 0)):
        np.testing.assert_array_equal(
            np.asarray(ax.images[0].get_array()).reshape(12, 10), images.pixels[k, 0]
        )


def test_every_probe_needs_an_answer(images):
    with pytest.raises(ValueError, match="got 0 for 20 probes"):
        matches(images, [], images)


def test_a_map_of_a_subset_names_only_its_people(embeddings):
    some = embeddings.subset([5, 6, 15])
    legend = embedding_map(some).get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["bob", "dan"]


def test_pictures_are_not_needed_for_a_map(embeddings):
    assert len(embedding_map(replace(embeddings, images=None)).collections) == 4
