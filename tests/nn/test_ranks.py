"""One rank of several, without the others. That together they equal one is in the laws."""

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from siamlearn.nn.losses import ContrastiveLoss
from siamlearn.nn.ranks import Ranks
from siamlearn.ranks import alone


@pytest.fixture
def group(request):
    """A process group of so many ranks, of which this process is the first."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=request.param)
    yield
    dist.destroy_process_group()


def test_a_process_without_a_group_is_alone():
    assert alone()


@pytest.mark.parametrize("group", [1], indirect=True)
def test_a_group_of_one_is_alone(group):
    assert alone()


@pytest.mark.parametrize("group", [2], indirect=True)
def test_answers_for_pairs_of_one_rank_are_refused_on_two(group):
    assert not alone()
    with pytest.raises(ValueError, match="same= says nothing of the pairs between ranks"):
        ContrastiveLoss()(torch.zeros(2, 3), same=torch.eye(2).bool())


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int64, torch.bool])
def test_labels_come_back_as_they_were(kind):
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        labels = torch.tensor([[1, 0], [0, 1]]).to(kind)
        labels = labels if kind == torch.bool else labels[0]
        _, names, own = Ranks()(torch.zeros(2, 3), labels)
    finally:
        dist.destroy_process_group()

    assert names.dtype == kind
    assert names.equal(labels)
    assert own.tolist() == [0, 1]
