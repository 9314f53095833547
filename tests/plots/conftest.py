"""A small result to draw: four people on the corners of a square, five pictures of each."""

import pytest
import torch

from siamlearn.data.image_set import ImageSet
from siamlearn.embeddings import Embeddings
from siamlearn.evaluation import Report, evaluate
from siamlearn.inspection import Bands, bands
from siamlearn.operating import OperatingPoint

PEOPLE = ("anna", "bob", "cleo", "dan")


@pytest.fixture(scope="session")
def images() -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat_interleave(5)
    noise = torch.randint(0, 40, (20, 1, 12, 10), generator=generator)
    pixels = (noise + 50 * labels[:, None, None, None]).to(torch.uint8)
    names = [f"{PEOPLE[label]}/{k % 5}.png" for k, label in enumerate(labels)]
    return ImageSet(pixels, labels, identities=PEOPLE, names=names)


@pytest.fixture(scope="session")
def embeddings(images: ImageSet) -> Embeddings:
    generator = torch.Generator().manual_seed(1)
    corners = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    vectors = corners[images.labels] + 0.6 * torch.randn(20, 2, generator=generator)
    return Embeddings(vectors, images.labels, images.identities, images.names, images)


@pytest.fixture(scope="session")
def report(embeddings: Embeddings) -> Report:
    return evaluate(embeddings)


@pytest.fixture(scope="session")
def limits(report: Report) -> Bands:
    return bands(report, resamples=50)


@pytest.fixture(scope="session")
def pointed(embeddings: Embeddings) -> Report:
    """Two of the people, at two thresholds chosen on the two others."""
    chosen_on = embeddings.subset(range(10))
    points = [OperatingPoint.fit(chosen_on, fmr=fmr) for fmr in (0.5, 0.2)]
    return evaluate(embeddings.subset(range(10, 20)), points, baselines=False)
