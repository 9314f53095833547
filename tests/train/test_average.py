"""The running average of the weights."""

import pytest
from torch import nn

from siamlearn.train.average import Average


def test_average_by_hand():
    # Shares kept: 0 at step 1, then 1/10 and 2/11, until decay is the smaller one.
    net = nn.Linear(1, 1, bias=False)
    average = Average(net, decay=0.15)
    for step, weight in enumerate([1.0, 2.0, 4.0], start=1):
        nn.init.constant_(net.weight, weight)
        average.update(step)
    with average.in_use():
        assert net.weight.item() == pytest.approx(0.15 * (0.1 * 1 + 0.9 * 2) + 0.85 * 4)
    assert net.weight.item() == 4


def test_running_statistics_are_averaged_and_counters_are_not():
    net = nn.BatchNorm1d(2)
    average = Average(net, decay=0.5)
    average.update(1)
    net.running_mean.fill_(10.0)
    net.num_batches_tracked.fill_(7)
    average.update(2)
    with average.in_use():
        assert net.running_mean.tolist() == pytest.approx([9.0, 9.0])
        assert net.num_batches_tracked.item() == 7


def test_use_within_use_changes_nothing():
    net = nn.Linear(1, 1, bias=False)
    average = Average(net, decay=0.5)
    nn.init.constant_(net.weight, 3.0)
    own = net.weight.item()
    with average.in_use():
        averaged = net.weight.item()
        with average.in_use():
            assert net.weight.item() == averaged
        assert net.weight.item() == averaged != own
    assert net.weight.item() == own


def test_it_follows_a_net_that_was_moved():
    net = nn.Linear(1, 1, bias=False)
    average = Average(net, decay=0.5)
    net.double().float()  # as moving to a device and back does: other tensors
    nn.init.constant_(net.weight, 3.0)
    average.update(1)
    nn.init.constant_(net.weight, 5.0)
    average.use()
    assert net.weight.item() == 3.0


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2])
def test_a_decay_that_forgets_or_learns_nothing_is_refused(decay):
    with pytest.raises(ValueError, match="average must be at least 0 and below 1"):
        Average(nn.Linear(1, 1), decay=decay)


def test_weights_that_two_modules_share_are_exchanged_once():
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    net[1].weight = net[0].weight
    average = Average(net, decay=0.5)
    average.update(1)
    nn.init.constant_(net[0].weight, 8.0)
    with average.in_use():
        assert net[0].weight.item() != 8
    assert net[0].weight.item() == 8
