"""How processes find each other, and not what is left of others that were here before them.

``torchrun`` may start its processes again, and keeps the store in which they left word of where
they are. Whoever reads that waits for one who is dead (pytorch/pytorch#135712, #167288).
"""

import time
from uuid import uuid4

from torch.distributed.distributed_c10d import PrefixStore, Store

__all__ = ["met"]

PAUSE = 0.01  # seconds
PATIENCE = 1800.0  # seconds, as a process group has


def met(store: Store, *, rank: int, ranks: int, patience: float = PATIENCE) -> Store:
    """A part of a store in which these processes are the first; all of them must call it.

    Each leaves a word that nobody else has. The first one answers every such word with the name
    of a new part, which the others go to and say so; until all of them have, it looks again, as
    a word that it has answered may have been that of the dead.

    Args:
        store: that all of them share, perhaps with others before them.
        rank: which of them this is, from zero.
        ranks: how many there are.
        patience: seconds that the first one waits for the others.

    Raises:
        TimeoutError: when one of them has not come by then.

    Example:
        >>> from torch.distributed import HashStore
        >>> store = HashStore()
        >>> store.set("siamlearn/here/0", "an earlier one")
        >>> met(store, rank=0, ranks=1).set("address", "here")
        >>> store.check(["address"])
        False
    """
    word = uuid4().hex
    store.set(f"siamlearn/here/{rank}", word)
    if rank == 0:
        part = uuid4().hex
        _gather(store, part, {*range(1, ranks)}, patience)
    else:
        part = store.get(f"siamlearn/answer/{word}").decode()  # waits for it
        store.set(f"siamlearn/{part}/{rank}", word)
    return PrefixStore(f"siamlearn/{part}", store)


def _gather(store: Store, part: str, missing: set[int], patience: float) -> None:
    until = time.monotonic() + patience
    while missing:
        for rank in sorted(missing):
            if store.check([f"siamlearn/{part}/{rank}"]):
                missing.remove(rank)
            elif store.check([f"siamlearn/here/{rank}"]):
                word = store.get(f"siamlearn/here/{rank}").decode()
                store.set(f"siamlearn/answer/{word}", part)
        if missing and time.monotonic() > until:
            msg = f"ranks {sorted(missing)} have not come within {patience:g} s; are they alive?"
            raise TimeoutError(msg)
        time.sleep(PAUSE)
