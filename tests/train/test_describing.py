"""Descriptions: equal for equal runs, in any program, and different where the runs are."""

import numpy as np
import torch
from torch.utils.data import BatchSampler, RandomSampler, TensorDataset

from siamlearn.data.samplers import PairSampler
from siamlearn.train.describing import differing, options, written, written_data, written_sampler


class Plain:
    """Without a repr of its own."""


class Labelled:
    def __init__(self, labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)


def test_no_address_is_written():
    assert written(Plain()) == written(Plain())
    assert written([Plain(), written]) == f"[<{__name__}.Plain object>, <function written>]"


def test_data_are_told_by_kind_length_and_labels(tiny):
    assert written_data(TensorDataset(torch.zeros(3))) == "TensorDataset of 3"
    assert written_data(iter([])) == "list_iterator"
    same = {written_data(Labelled(kind)) for kind in ([0, 1], np.array([0, 1]), (0, 1))}
    assert len(same) == 1
    assert same != {written_data(Labelled([1, 0]))}
    assert written_data(tiny.pictures()).startswith("ImageSet of 12, digest ")


def test_a_sampler_is_told_by_its_settings_and_not_by_where_it_stands():
    sampler = PairSampler([0, 0, 1, 1], pairs=2, rank=1, ranks=2)
    before = written_sampler(sampler)
    next(iter(sampler))
    assert written_sampler(sampler) == before == written_sampler(PairSampler([0, 0, 1, 1], pairs=2))
    assert before != written_sampler(PairSampler([0, 0, 1, 1], pairs=2, seed=1))
    inner = RandomSampler([3, 4, 5], replacement=True)
    assert "RandomSampler(replacement=True, length=3)" in written_sampler(
        BatchSampler(inner, 2, drop_last=True)
    )


def test_options_are_numbers_of_each_group_and_the_first_learning_rate():
    one, two = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    groups = [{"params": [one], "lr": torch.tensor(0.5)}, {"params": [two]}]
    optimizer = torch.optim.AdamW(groups, lr=0.25, betas=(0.8, 0.9))
    torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5)
    found = options(optimizer)
    assert [group["lr"] for group in found] == [0.5, 0.25]
    assert found[0]["betas"] == (0.8, 0.9)
    assert all("params" not in group for group in found)


def test_configurations_are_told_apart_by_their_differing_entries_alone():
    one = {"size": 3, "blocks": [{"width": 8}, {"width": 16}], "input": [1, 2]}
    other = {"size": 3, "blocks": [{"width": 8}], "input": [1, 3]}
    assert differing(one, other) == (
        "blocks[1].width 16, input [1, 2]",
        "blocks[1].width missing, input [1, 3]",
    )
    assert differing("Linear", one) == ("Linear", one)
