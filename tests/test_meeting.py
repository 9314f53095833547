"""Processes that meet where others have met before; here they are threads."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist

from siamlearn.meeting import met


def meeting(store, ranks=3):
    """Each sets its address and reads those of all, as a process group does."""

    def come(rank):
        part = met(store, rank=rank, ranks=ranks)
        part.set(f"address/{rank}", f"{rank} of {ranks}")
        return [part.get(f"address/{other}").decode() for other in range(ranks)]

    with ThreadPoolExecutor(ranks) as pool:
        return [*pool.map(come, reversed(range(ranks)))]


def test_all_read_what_all_wrote():
    assert meeting(dist.HashStore()) == [["0 of 3", "1 of 3", "2 of 3"]] * 3


def test_nobody_reads_what_was_left_by_those_before():
    store = dist.HashStore()
    for ranks in (4, 2, 3, 1):
        expected = [f"{rank} of {ranks}" for rank in range(ranks)]
        assert meeting(store, ranks) == [expected] * ranks


def test_those_who_died_before_they_met_are_not_waited_for():
    store = dist.HashStore()
    for rank in range(3):
        store.set(f"siamlearn/here/{rank}", f"the dead {rank}")
    assert meeting(store) == [["0 of 3", "1 of 3", "2 of 3"]] * 3


def test_who_never_comes_is_named():
    with pytest.raises(TimeoutError, match=r"ranks \[1, 2\] have not come within 0.1 s"):
        met(dist.HashStore(), rank=0, ranks=3, patience=0.1)
