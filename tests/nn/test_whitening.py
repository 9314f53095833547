import torch

from siamlearn.nn.whitening import (
    Whitening,
    carries_over,
    principal_axes,
    several,
    shrunk_covariance,
)


def fitted(size, images, labels):
    whitening = Whitening(size, channels=1)
    return whitening.fit(whitening.shrunk(images), labels)


def pictures_of_people(people=12, each=8, seed=0):
    """Each person has a picture of their own; pictures of one person differ in the light only."""
    generator = torch.Generator().manual_seed(seed)
    faces = torch.rand(people, 1, 6, 5, generator=generator)
    light = 4 * torch.rand(people, each, 1, 1, 1, generator=generator)
    noise = 0.01 * torch.randn(people, each, 1, 6, 5, generator=generator)
    images = faces[:, None] + light + noise
    return images.flatten(0, 1), torch.arange(people).repeat_interleave(each)


def test_what_varies_within_people_counts_little():
    images, labels = pictures_of_people()
    whitening = fitted((6, 5), images, labels)
    strangers, who = pictures_of_people(seed=1)

    def nearest_is_right(vectors):
        distance = torch.cdist(vectors, vectors).fill_diagonal_(torch.inf)
        return (who[distance.argmin(dim=1)] == who).float().mean()

    # By their pixels, two people in the same light are nearer than one person in two lights.
    assert nearest_is_right(strangers.flatten(1)) < 0.8
    assert nearest_is_right(whitening(strangers)) > 0.95


def test_what_does_not_carry_over_to_other_people_is_not_whitened():
    # Every second person varies in the upper half of the picture, the others in the lower half:
    # to discount what varies in some is to discount what tells the others apart.
    generator = torch.Generator().manual_seed(0)
    upper = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])[:, None].expand(6, 5)
    images = torch.rand(12, 1, 1, 6, 5, generator=generator)
    noise = torch.randn(12, 8, 1, 6, 5, generator=generator)
    varies = torch.stack([upper, 1 - upper])[torch.arange(12) % 2][:, None, None]
    images = (images * (1 - varies) + 0.15 * noise * varies).flatten(0, 1)
    labels = torch.arange(12).repeat_interleave(8)
    whitening = fitted((6, 5), images, labels)

    # The components keep their own scale: distances are those of the pixels, all times one factor.
    ratio = torch.pdist(whitening(images)) / torch.pdist(images.flatten(1))
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-4, atol=0)


def test_pictures_are_about_1_apart_whatever_their_contrast():
    images, labels = pictures_of_people()
    for contrast in (1.0, 0.01):
        whitening = fitted((6, 5), contrast * images, labels)
        square = torch.pdist(whitening(contrast * images)).square().mean()
        # n (n - 1) / 2 pairs stand beside n (n) / 2 in the variance.
        torch.testing.assert_close(square.item(), 96 / 95, rtol=1e-3, atol=0)


def test_names_of_identities_do_not_matter():
    images, labels = pictures_of_people(people=4, each=3)
    one = fitted((3, 3), images, labels)(images)
    other = fitted((3, 3), images, 1000 - 7 * labels)(images)

    torch.testing.assert_close(torch.pdist(one), torch.pdist(other), rtol=1e-4, atol=1e-5)


def test_copies_of_a_picture_are_no_trouble():
    images = torch.rand(3, 1, 4, 4).repeat_interleave(2, dim=0)
    vectors = fitted((4, 4), images, torch.arange(6) // 2)(images)

    assert vectors.isfinite().all()


def test_pictures_all_alike_are_no_trouble():
    images = torch.full((4, 1, 4, 4), 0.5)
    vectors = fitted((4, 4), images, torch.arange(4) // 2)(images)

    assert vectors.isfinite().all()


def test_principal_axes_agree_with_scikit_learn():
    from sklearn.decomposition import PCA

    for shape in ((30, 8), (6, 20)):
        x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        axes = principal_axes(x - x.mean(dim=0), 3)
        theirs = torch.from_numpy(PCA(3).fit(x.numpy()).components_)

        torch.testing.assert_close((theirs @ axes).abs(), torch.eye(3, dtype=torch.float64))


def test_a_shrunk_covariance_of_few_rows_is_not_singular():
    rows = torch.randn(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    assert torch.linalg.eigvalsh(shrunk_covariance(rows)).min() > 0


def test_the_order_of_labels_and_people_with_one_picture_decide_nothing():
    images, labels = pictures_of_people()
    small, singles = images.flatten(1).double(), torch.rand(200, 30, dtype=torch.float64)
    first = torch.cat([labels, 1000 + torch.arange(200)])
    last = torch.cat([1000 + labels, torch.arange(200)])

    for who in (first, last):
        who = torch.unique(who, return_inverse=True)[1]
        assert carries_over(torch.cat([small, singles]), who)


def test_several_are_few_enough_to_compare():
    who = torch.arange(3).repeat_interleave(5000)[torch.randperm(15000)]
    chosen = several(who, pictures=10)

    assert len(set(chosen.tolist())) == 30
    assert who[chosen].bincount().tolist() == [10, 10, 10]
    assert len(several(torch.arange(50))) == 0
