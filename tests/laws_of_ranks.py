"""What every loss must do on several ranks: as one process that holds the batch of all."""

import pytest
import torch
from torch import Tensor

from known import together
from known.together import WAYS, Case, alone, cases, of_every_choice
from known.trials import assert_same, every_loss

CHOICES = [name for name, case in of_every_choice().items() if not case.broken]


@pytest.fixture(scope="module")
def outcomes():
    return together.outcomes()


def assert_ranks_equal_one_process(said: list[list[Tensor]], case: Case) -> None:
    cost, gradient, *learned = alone(case)
    # Each rank rounds its share of a gradient in half precision before they are added.
    within = {} if case.dtype == torch.float64 else {"within": 1e-2}
    for its_cost, *_ in said:  # what is logged is the loss of all
        torch.testing.assert_close(its_cost, cost)
    assert_same((torch.cat([own for _, own, *_ in said]),), (gradient,), **within)
    shares = zip(*(shares for _, _, *shares in said), strict=True)
    assert_same(tuple(sum(share) for share in shares), tuple(learned), **within)


@every_loss
@pytest.mark.parametrize(("sizes", "rows"), WAYS, ids=str)
def test_uneven_ranks_equal_one_process(loss, sizes, rows, outcomes):
    name = f"{loss.name} {sizes} {rows}"

    assert_ranks_equal_one_process(outcomes[name], cases()[name])


@pytest.mark.parametrize("name", CHOICES)
def test_ranks_equal_one_process_with_every_choice(name, outcomes):
    assert_ranks_equal_one_process(outcomes[name], cases()[name])


def test_a_gather_that_forgets_the_gradient_would_be_found(outcomes):
    name = "a gather that forgets the gradient"
    (cost, *_), (expected, *_) = outcomes[name][0], alone(cases()[name])

    torch.testing.assert_close(cost, expected)
    with pytest.raises(AssertionError, match="not close"):
        assert_ranks_equal_one_process(outcomes[name], cases()[name])
