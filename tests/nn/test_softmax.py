"""Temperatures that are given or learned; what the losses compute is in ``laws.py``."""

import math

import pytest
import torch
from torch import Tensor, nn

from siamlearn.functional.pairings import two_towers
from siamlearn.nn.losses import DecoupledLoss, InfoNCELoss, NCALoss, SupConLoss

every_loss = pytest.mark.parametrize("loss", [InfoNCELoss, SupConLoss, DecoupledLoss, NCALoss])


def a_batch(n: int = 12) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(0)), torch.arange(n) % 3


@every_loss
@pytest.mark.parametrize("rows", [None, 5, 12])
def test_a_learned_temperature_starts_where_it_is_told_and_learns(loss, rows):
    given, learned = loss(0.5, rows=rows), loss(0.5, learned=True, rows=rows)
    batch = a_batch()
    learned(*batch).backward()
    above, below = (loss(0.5 * math.exp(step), rows=rows)(*batch) for step in (1e-2, -1e-2))

    torch.testing.assert_close(learned(*batch), given(*batch))
    assert learned.log_temperature.grad.item() == pytest.approx(
        (above - below).item() / 2e-2, rel=1e-2, abs=1e-4
    )
    assert not list(given.parameters())


@every_loss
def test_a_learned_temperature_never_stays_below_a_hundredth_and_comes_back(loss):
    cold = loss(0.5, learned=True)
    cold.log_temperature.data.fill_(-9.0)
    batch = a_batch()

    torch.testing.assert_close(cold(*batch), loss(0.01)(*batch))
    # One step up must be enough, however far below the last one led.
    cold.log_temperature.data += 0.5
    torch.testing.assert_close(cold(*batch), loss(0.01 * math.exp(0.5))(*batch))


def test_what_is_learned_is_saved():
    learned = InfoNCELoss(0.5, learned=True)
    other = InfoNCELoss(learned=True)
    other.load_state_dict(learned.state_dict())

    assert other.log_temperature.exp().item() == pytest.approx(0.5)
    assert not InfoNCELoss().state_dict()


def test_a_temperature_cannot_start_where_it_may_not_be():
    with pytest.raises(ValueError, match=r"must start at 0\.01 or above, got 0\.005"):
        InfoNCELoss(0.005, learned=True)
    assert InfoNCELoss(0.005).temperature == 0.005


def test_two_towers_with_a_learned_temperature_learn_to_pair():
    # Two linear towers over the same eight things, seen through different windows.
    torch.manual_seed(0)
    things = torch.randn(8, 6)
    left, right = nn.Linear(6, 4), nn.Linear(6, 4)
    loss = InfoNCELoss(learned=True, pairing=two_towers)
    learning = [*left.parameters(), *right.parameters(), *loss.parameters()]
    optimizer = torch.optim.Adam(learning, lr=0.03)

    costs = []
    for _ in range(60):
        both = torch.cat([left(things), right(things.roll(1, dims=1))])
        costs.append(loss(both, torch.arange(8).repeat(2)))
        optimizer.zero_grad()
        costs[-1].backward()
        optimizer.step()

    assert costs[-1] < 0.1 * costs[0]
    assert loss.log_temperature.item() != pytest.approx(math.log(0.07), abs=1e-3)


def test_a_loss_says_whether_its_temperature_is_given():
    assert repr(InfoNCELoss(0.1)).endswith("temperature=0.1)")
    assert "temperature" not in repr(InfoNCELoss(0.1, learned=True))
