"""A protocol is known by names; what the pictures under these names show has a hash of its own."""

from dataclasses import replace

import pytest

from siamlearn.baselines import pixels
from siamlearn.data.drawn import DrawnFaces
from siamlearn.data.image_set import ImageSet
from siamlearn.evaluation import differences, evaluate
from siamlearn.report.page import provenance

FACES = DrawnFaces(4, 3, size=(28, 23))


def report(shown, *, gallery=None, **kinds):
    embeddings = replace(pixels(shown), **kinds)
    enrolled = None if gallery is None else pixels(gallery)
    return evaluate(embeddings, gallery=enrolled, baselines=False, audit=False, resamples=20)


def of_first_pixel(images, value):
    found = images.pixels.clone()
    found[0, 0, 0, 0] = value
    return ImageSet(found, images.labels, identities=images.identities, names=images.names)


def test_one_pixel_that_changed_is_noticed_and_the_protocol_stays():
    one, other = (report(of_first_pixel(FACES, value)) for value in (1, 2))

    assert one.protocol.digest == other.protocol.digest
    assert one.protocol.pictures != other.protocol.pictures
    with pytest.warns(UserWarning, match="the same names have other pixels for net"):
        differences(one, other)


def test_one_pixel_of_the_gallery_is_noticed():
    probes, gallery = FACES.split_gallery(pictures=1)
    one, other = (report(probes, gallery=of_first_pixel(gallery, value)) for value in (1, 2))

    assert one.protocol.digest == other.protocol.digest
    with pytest.warns(UserWarning, match="other pixels"):
        differences(one, other)


def test_pictures_in_another_order_are_the_same():
    turned = report(FACES.subset(range(len(FACES) - 1, -1, -1)))

    assert turned.protocol == report(FACES).protocol


def test_of_embeddings_without_pictures_nobody_can_tell():
    without = report(FACES, images=None)

    assert without.protocol.pictures is None
    assert "pictures" not in without.to_dict()["protocol"]
    assert len(report(FACES).to_dict()["protocol"]["pictures"]) == 64
    differences(without, report(FACES))


def test_baselines_are_of_the_same_pictures():
    found = evaluate(pixels(FACES), resamples=20)

    assert {each.protocol for each in found.baselines} == {found.protocol}


def test_the_page_has_the_hash_of_the_pixels():
    found = report(FACES)

    assert provenance(found)["hash of the pixels"] == found.protocol.pictures
    assert "hash of the pixels" not in provenance(report(FACES, images=None))
