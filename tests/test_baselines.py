from dataclasses import replace

import pytest
import torch

from siamlearn.baselines import pca, pca_lda, pixels, untrained
from siamlearn.comparison import compare
from siamlearn.data.att_faces import ATTFaces
from siamlearn.data.drawn import DrawnFaces
from siamlearn.data.images import ImageSet
from siamlearn.evaluation import evaluate


def pictures(people, each=4, *, shape=(1, 12, 10), seed=0):
    """People are pictures of noise; their pictures are those with other noise on them."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(people * each) // each
    faces = torch.randint(200, (people, *shape), generator=generator)
    noise = torch.randint(56, (len(labels), *shape), generator=generator)
    return ImageSet(
        (faces[labels] + noise).to(torch.uint8),
        labels,
        identities=[f"s{i}" for i in range(people)],
        names=[f"{i}.png" for i in range(len(labels))],
    )


def test_a_picture_is_shrunk_to_a_longer_side_of_28_pixels():
    def length(shape):
        return pixels(pictures(1, 1, shape=shape)).vectors.shape[1]

    assert length((1, 112, 92)) == 28 * 23
    assert length((3, 64, 128)) == 3 * 14 * 28
    assert length((1, 28, 20)) == 28 * 20
    assert length((1, 5, 9)) == 5 * 9  # nothing grows
    assert length((1, 300, 2)) == 28 * 1


def test_small_pictures_are_compared_as_they_are():
    images = pictures(2)

    found = pixels(images)

    assert torch.equal(found.vectors, images.pixels.flatten(1) / 255)
    assert found.images is images


def test_shrinking_averages():
    stripes = torch.zeros(1, 1, 112, 112, dtype=torch.uint8)
    stripes[..., ::2] = 254
    images = ImageSet(stripes, torch.tensor([0]), identities=["a"], names=["1"])

    inside = pixels(images).vectors.view(28, 28)[:, 1:-1]  # the last stripes have no neighbour
    torch.testing.assert_close(inside, torch.full((28, 26), 127 / 255))


def test_all_principal_components_together_change_no_distance():
    images = pictures(6)

    whole = compare(pca(images, components=1000))

    torch.testing.assert_close(whole.genuine, compare(pixels(images)).genuine)


@pytest.mark.parametrize("people", [4, 60], ids=["more pixels", "more pictures"])
def test_pca_equals_scikit_learn(people):
    from sklearn.decomposition import PCA

    train, images = pictures(people), pictures(3, seed=1)
    theirs = PCA(5, svd_solver="full").fit(train.pixels.flatten(1).double().numpy() / 255)
    expected = torch.from_numpy(theirs.transform(images.pixels.flatten(1).double().numpy() / 255))

    found = pca(images, train=train, components=5).vectors

    # Each component may point either way.
    torch.testing.assert_close(found.abs().double(), expected.abs(), atol=1e-5, rtol=1e-4)


def test_pca_without_training_pictures_learns_from_the_tested_ones():
    images = pictures(6)

    assert torch.equal(pca(images).vectors, pca(images, train=images).vectors)


def test_pca_never_sees_who_is_on_a_picture():
    images = pictures(6)
    shuffled = ImageSet(
        images.pixels, images.labels.flip(0), identities=images.identities, names=images.names
    )

    assert torch.equal(pca(images).vectors, pca(images, train=shuffled).vectors)


def test_pca_lda_tells_people_apart_where_pixels_fail():
    # The light comes and goes from picture to picture, and is stronger than all else.
    def lit(images, seed):
        light = torch.rand(len(images), 1, 1, 1, generator=torch.Generator().manual_seed(seed))
        dark = (images.pixels * light).to(torch.uint8)
        return ImageSet(dark, images.labels, identities=images.identities, names=images.names)

    train, test = lit(pictures(30, seed=2), 3), lit(pictures(8, seed=4), 5)

    learned = evaluate(pca_lda(test, train=train), train=train)

    plain = {row.name: row.auc for row in learned.baselines}
    assert learned.auc == plain["PCA+LDA"] > max(plain["pixels"], plain["PCA"]) + 0.1


def test_pca_lda_equals_scikit_learn_where_there_is_no_need_to_shrink():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    train, images = pictures(4, 300, shape=(1, 1, 5)), pictures(5, shape=(1, 1, 5), seed=1)
    theirs = LinearDiscriminantAnalysis(solver="svd")
    theirs.fit(pixels(train).vectors.numpy(), train.labels.numpy())
    expected = torch.from_numpy(theirs.transform(pixels(images).vectors.numpy())).float()

    found = compare(pca_lda(images, train=train))

    # Theirs is not shrunk: with 1,200 pictures that is worth a few per cent of a distance.
    torch.testing.assert_close(found.genuine, genuine_of(expected, images), rtol=0.1, atol=0)


def genuine_of(vectors, images):
    return compare(replace(pixels(images), vectors=vectors)).genuine


@pytest.mark.parametrize("each", [2, 3])
def test_pca_lda_bears_copies_of_a_picture(each):
    images = pictures(5, each)
    copies = images.subset((torch.arange(len(images)) // each) * each)

    found = replace(pca_lda(copies, train=copies), names=images.names)
    assert evaluate(found, baselines=False).auc == 1


@pytest.mark.parametrize("baseline", [pca, pca_lda])
def test_pictures_of_another_shape_are_refused(baseline):
    with pytest.raises(ValueError, match=r"\(1, 12, 10\), got \(1, 6, 5\); resize one of them"):
        baseline(pictures(3), train=pictures(3, shape=(1, 6, 5)))


def test_too_few_pictures_to_learn_from_are_refused():
    with pytest.raises(ValueError, match="at least two pictures, got components=50 of 1 pictures"):
        pca(pictures(3), train=pictures(1, 1))
    with pytest.raises(ValueError, match="components=0 of 12 pictures"):
        pca(pictures(3), components=0)
    for train in (pictures(1), pictures(5, 1)):
        with pytest.raises(ValueError, match="at least two people, one of them on two pictures"):
            pca_lda(pictures(3), train=train)


def test_the_published_numbers_of_the_att_faces(att_faces_root):
    faces = ATTFaces(att_faces_root)
    train = faces.only(f"s{i}" for i in range(2, 32))
    test = faces.only(f"s{i}" for i in range(32, 41))

    report = evaluate(pixels(test), train=train)

    found = {row.name: (row.auc, row.balanced_accuracy) for row in report.baselines}
    assert found["pixels"] == pytest.approx((0.970, 0.907), abs=5e-4)
    assert found["PCA"] == pytest.approx((0.975, 0.915), abs=5e-4)
    assert found["PCA+LDA"] == pytest.approx((0.986, 0.944), abs=5e-4)


def test_whitened_components_vary_alike_on_the_pictures_they_are_learned_from():
    train, test = DrawnFaces(6, 4, size=(28, 23)), DrawnFaces(3, 3, size=(28, 23), seed=1)

    found = pca(train, whitened=True)
    plain = pca(train, components=6)

    torch.testing.assert_close(found.vectors.std(dim=0), torch.ones(6))
    torch.testing.assert_close(found.vectors, plain.vectors / plain.vectors.std(dim=0))
    assert pca(test, train=train, components=5, whitened=True).vectors.shape == (9, 5)


def test_whitened_pictures_are_not_all_equally_far_apart():
    found = compare(pca(DrawnFaces(4, 4, size=(28, 23)), whitened=True))

    assert found.impostor.std() > 0.2 * found.impostor.mean()


def test_an_untrained_net_depends_on_its_seed_alone():
    faces = DrawnFaces(2, 2, size=(28, 23))
    state = torch.get_rng_state()

    one, same, other = untrained(faces), untrained(faces), untrained(faces, seed=1)

    assert torch.equal(one.vectors, same.vectors)
    assert not torch.equal(one.vectors, other.vectors)
    assert torch.equal(torch.get_rng_state(), state)
    assert one.images is faces
