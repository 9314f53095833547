import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from siamlearn.functional.distances import cosine, euclidean, squared_euclidean

every_distance = pytest.mark.parametrize("distance", [cosine, euclidean, squared_euclidean])


def points(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def one_by_one(queries: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    return (queries.double()[:, None] - references.double()).square().sum(dim=-1).sqrt()


def test_distances_by_hand():
    queries, references = torch.tensor([[0.0, 2.0]]), torch.tensor([[3.0, -2.0], [0.0, 7.0]])

    assert euclidean(queries, references).tolist() == [[5.0, 5.0]]
    assert squared_euclidean(queries, references).tolist() == [[25.0, 25.0]]
    assert cosine(queries, references).tolist() == [[pytest.approx(1 + 2 / 13**0.5), 0.0]]


@given(
    seed=st.integers(0, 2**16),
    n=st.integers(1, 40),
    d=st.sampled_from([1, 2, 128, 600]),
    offset=st.sampled_from([0.0, 1.0, 1e3, 1e6]),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_a_vector_is_at_distance_zero_from_itself(seed, n, d, offset, scale):
    x = points(seed, n, d, dtype=torch.float32) * scale + offset

    assert euclidean(x, x).diagonal().eq(0).all()
    assert euclidean(x, x.flip(0)).fliplr().diagonal().eq(0).all()


@pytest.mark.parametrize("apart", [1e-5, 1e-3, 1e-1, 1.0])
@pytest.mark.parametrize("offset", [0.0, 10.0])
def test_near_vectors_keep_their_digits(apart, offset):
    x = points(0, 50, 128, dtype=torch.float32) + offset
    near = x + apart * points(1, 50, 128, dtype=torch.float32)
    exact = one_by_one(x, near)

    torch.testing.assert_close(euclidean(x, near).double(), exact, rtol=2e-7, atol=2e-9)


def test_the_usual_matrix_form_would_lose_them():
    x = points(0, 50, 128, dtype=torch.float32)
    near = x + 1e-5 * points(1, 50, 128, dtype=torch.float32)
    usual = torch.cdist(x, near, compute_mode="use_mm_for_euclid_dist").diagonal().double()
    exact = one_by_one(x, near).diagonal()

    assert ((usual - exact).abs() / exact).max() > 1
    assert ((euclidean(x, near).diagonal() - exact).abs() / exact).max() < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_equals_that_of_the_differences(dtype):
    queries, references = points(0, 7, 5, dtype=dtype), points(1, 9, 5, dtype=dtype)
    weights = points(2, 7, 9, dtype=dtype)
    ends = queries.requires_grad_(), references.requires_grad_()
    ours = torch.autograd.grad((weights * euclidean(queries, references)).sum(), ends)
    exact = torch.autograd.grad((weights * one_by_one(queries, references)).sum(), ends)

    torch.testing.assert_close(ours, exact)


@every_distance
def test_gradients_of_gradients_are_right(distance):
    ends = points(0, 3, 4).requires_grad_(), points(1, 2, 4).requires_grad_()

    assert torch.autograd.gradcheck(distance, ends)
    assert torch.autograd.gradgradcheck(distance, ends)


@every_distance
def test_gradient_at_distance_zero_is_zero(distance):
    x = torch.tensor([[3.0, 4.0]], requires_grad=True)
    distance(x, x.detach()).sum().backward()

    assert x.grad.abs().max() < 1e-7


def test_the_zero_vector_has_no_direction_and_a_modest_gradient():
    x = torch.zeros(1, 2, requires_grad=True)
    distance = cosine(x, torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    distance.sum().backward()

    assert distance.tolist() == [[1.0, 1.0]]
    assert x.grad.norm() <= 1


@given(seed=st.integers(0, 2**16))
def test_cosine_stays_within_zero_and_two_and_ignores_length(seed):
    x = points(seed, 20, 3, dtype=torch.float32)
    distance = cosine(x, torch.cat([x, -x]))

    assert distance.min() >= 0
    assert distance.max() <= 2
    torch.testing.assert_close(cosine(x, x), cosine(1000 * x, x / 1000))


@every_distance
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(distance, dtype):
    x, y = points(0, 4, 8, dtype=dtype), points(1, 5, 8, dtype=dtype)

    assert distance(x, y).dtype == torch.float32
    assert distance(x, y).equal(distance(x.float(), y.float()))


@every_distance
def test_autocast_changes_nothing(distance):
    x, y = points(0, 40, 8, dtype=torch.float32), points(1, 50, 8, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = distance(x, y)

    assert inside.equal(distance(x, y))


@every_distance
def test_leading_dimensions_are_separate_blocks(distance):
    x, y = points(0, 3, 4, 8), points(1, 3, 5, 8)

    torch.testing.assert_close(
        distance(x, y), torch.stack([distance(*xy) for xy in zip(x, y, strict=True)])
    )


@every_distance
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_nothing_is_at_no_distance(distance, dtype, shape):
    x, y = torch.ones(shape[0], 4, dtype=dtype), torch.ones(shape[1], 4, dtype=dtype)
    ends = x.requires_grad_(), y.requires_grad_()
    gradients = torch.autograd.grad(distance(x, y).sum(), ends)

    assert distance(x, y).shape == shape
    assert all(gradient.eq(0).all() for gradient in gradients)


@every_distance
def test_nan_goes_through(distance):
    x = torch.tensor([[torch.nan, 1.0], [2.0, 3.0]])

    assert distance(x, x[1:]).isnan().tolist() == [[True], [False]]


def test_works_under_torch_func_and_without_gradient():
    x, y = points(0, 3, 4), points(1, 2, 4)
    slope = torch.func.grad(lambda x: euclidean(x, y).sum())(x)
    expected = torch.autograd.grad(euclidean(x.requires_grad_(), y).sum(), x)[0]

    torch.testing.assert_close(slope, expected)
    with torch.inference_mode():
        assert not euclidean(x, y).requires_grad


@pytest.mark.parametrize(("far", "tolerance"), [(1.0, 1e-6), (1e3, 1e-6), (1e5, 1e-4)])
def test_a_far_reference_costs_a_near_one_no_digits(far, tolerance):
    generator = torch.Generator().manual_seed(0)
    query, step = torch.randn(2, 1, 128, generator=generator)
    step = step / step.norm()
    references = torch.cat([query + step, query + 2 * far * step])

    wide = (query.double() - references[:1].double()).norm().item()
    assert euclidean(query, references)[0, 0].item() == pytest.approx(wide, rel=tolerance)


def test_pairs_side_by_side_are_as_far_apart_as_in_a_block_of_all():
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 6, 5, generator=generator)
    right[0] = left[0]  # a picture and itself
    beside, block = left.clone().requires_grad_(), left.clone().requires_grad_()
    pairs = euclidean(beside[:, None], right[:, None])[:, 0, 0]
    every = euclidean(block, right).diagonal()

    torch.testing.assert_close(pairs, every)
    torch.testing.assert_close(
        torch.autograd.grad(pairs.sum(), beside)[0], torch.autograd.grad(every.sum(), block)[0]
    )
    assert pairs[0] == 0
