import hashlib
from itertools import combinations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score

from siamlearn.data.drawn import DrawnFaces


@pytest.fixture(scope="module")
def faces():
    return DrawnFaces()


def separation(vectors, labels):
    """Area under the ROC curve of all pairs, by Euclidean distance."""
    rows, columns = torch.triu_indices(len(labels), len(labels), 1)
    distance = torch.cdist(vectors, vectors)[rows, columns]
    return roc_auc_score(labels[rows] == labels[columns], -distance)


def test_there_are_forty_people_in_ten_pictures_of_the_shape_of_the_att_faces(faces):
    assert faces.pixels.shape == (400, 1, 112, 92)
    assert faces.pixels.dtype == torch.uint8
    assert faces.identities == tuple(f"s{i}" for i in range(1, 41))
    assert faces.labels.tolist() == [i // 10 for i in range(400)]
    assert faces.names[:2] == ("s1/1", "s1/2")
    assert faces.names[-1] == "s40/10"


def test_the_same_bytes_come_out_on_every_machine(faces):
    # Changing this changes every figure that was measured on drawn faces.
    digest = hashlib.sha256(faces.pixels.numpy().tobytes()).hexdigest()
    assert digest == "e8ad0c021cdce98578b00e45869ef213794c2e1be128e347e0cb85241334b92f"


def test_a_face_depends_on_its_own_numbers_only():
    many = DrawnFaces(identities=5, pictures=4, size=(32, 28), seed=2)
    few = DrawnFaces(identities=3, pictures=2, size=(32, 28), seed=2)

    assert torch.equal(few.pixels, many.pixels.view(5, 4, 1, 32, 28)[:3, :2].flatten(0, 1))


def test_all_pictures_differ_and_so_do_those_of_another_seed():
    one, other = (DrawnFaces(6, 4, size=(32, 28), seed=seed).pixels for seed in (0, 1))

    assert all(not torch.equal(a, b) for a, b in combinations([*one, *other], 2))


@pytest.mark.parametrize("size", [(1, 1), (7, 40), (160, 120)])
def test_faces_fit_any_size(size):
    pixels = DrawnFaces(2, 1, size=size).pixels

    assert pixels.shape == (2, 1, *size)


def test_a_larger_face_is_the_same_face():
    large, small = DrawnFaces(3, 2, size=(112, 92)), DrawnFaces(3, 2, size=(56, 46))

    shrunk = F.avg_pool2d(large.pixels.float(), 2)
    assert (shrunk - small.pixels).abs().mean() < 10
    for one, another in zip(shrunk, small.pixels.float(), strict=True):
        assert np.corrcoef(one.flatten(), another.flatten())[0, 1] > 0.95


def test_people_are_told_apart_by_pixels_badly_and_by_learning_better(faces):
    pixels = F.interpolate(faces.pixels.float(), size=(28, 23), mode="area").flatten(1)
    known = faces.labels < 31
    seen, labels = pixels[known], faces.labels[known]

    assert 0.80 < separation(pixels, faces.labels) < 0.93
    components = PCA(20, random_state=0).fit(seen)
    learned = LinearDiscriminantAnalysis().fit(components.transform(seen), labels)
    vectors = torch.from_numpy(learned.transform(components.transform(pixels[~known])))
    unseen = faces.labels[~known]
    assert separation(vectors, unseen) > separation(pixels[~known], unseen) + 0.04


@pytest.mark.parametrize(
    "wrong", [{"identities": 0}, {"pictures": 0}, {"size": (0, 92)}, {"size": (112, -1)}]
)
def test_no_people_pictures_or_pixels_are_refused(wrong):
    with pytest.raises(ValueError, match="identities, pictures and size must be at least 1, got"):
        DrawnFaces(**wrong)
