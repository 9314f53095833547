import pytest
import torch

from siamlearn.functional.distances import (
    cosine,
    euclidean,
    signal_to_noise,
    squared_euclidean,
)
from siamlearn.functional.prepared import prepared

DISTANCES = [cosine, euclidean, signal_to_noise, squared_euclidean]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize(("q", "r"), [(5, 7), (1, 1), (3, 1), (1, 4), (2, 0), (0, 3)])
def test_prepared_distances_are_the_same_numbers(distance, q, r, dtype):
    generator = torch.Generator().manual_seed(q + r)
    queries, references = (torch.randn(n, 4, generator=generator).to(dtype) for n in (q, r))
    if q and r:
        references[0] = queries[0]
        references[-1] = 0

    torch.testing.assert_close(
        prepared(distance, references)(queries), distance(queries, references), rtol=0, atol=1e-7
    )


@pytest.mark.parametrize("distance", DISTANCES)
def test_prepared_distances_need_no_gradient_and_write_into_nothing(distance):
    queries, references = torch.randn(2, 3, 4, requires_grad=True).unbind()
    before = queries.clone(), references.clone()
    apart = prepared(distance, references)
    first, second = apart(queries), apart(queries)

    assert not first.requires_grad
    assert first.equal(second)
    assert queries.equal(before[0])
    assert references.equal(before[1])


def test_a_vector_is_at_distance_0_from_itself():
    x = 1e3 + torch.randn(50, 8, generator=torch.Generator().manual_seed(0))

    assert (prepared(euclidean, x)(x).diagonal() == 0).all()
