import numpy as np
import pytest
import torch

from siamlearn.answers import Match
from siamlearn.data.image_set import ImageSet
from siamlearn.plots import faces, matches


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
