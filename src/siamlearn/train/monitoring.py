"""Callbacks that add what training costs, and its learning rates, to each epoch's row.

They stand before the callbacks that write the row. Times and memory differ from run to run; the
weights do not.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, final

import torch

from siamlearn.train.callbacks import Callback

if TYPE_CHECKING:
    from siamlearn.train.trainer import Trainer

__all__ = ["LearningRates", "PeakMemory", "Throughput"]


@final
class LearningRates(Callback):
    """Add the learning rate of each group of the optimizer to the epoch's row.

    The columns are ``lr_0``, ``lr_1`` …, or ``lr_head`` where a group has a ``"name"``. As ``lr``,
    they are what the next step takes. What a loss learns (proxies, a temperature) is the last
    group.

    Example:
        >>> from siamlearn.nn.losses import ContrastiveLoss
        >>> from siamlearn.train.trainer import Trainer
        >>> net = torch.nn.Linear(3, 2)
        >>> groups = [{"params": [net.weight]}, {"params": [net.bias], "lr": 0.5, "name": "bias"}]
        >>> optimizer = torch.optim.SGD(groups, lr=0.1)
        >>> batches = [(torch.eye(3), torch.tensor([0, 0, 1]))]
        >>> trainer = Trainer(net, ContrastiveLoss(), optimizer, callbacks=[LearningRates()])
        >>> row = trainer.fit(batches, epochs=1).log[0]
        >>> row["lr_0"], row["lr_bias"]
        (0.1, 0.5)
    """

    def on_epoch_end(self, trainer: Trainer) -> None:
        for k, group in enumerate(trainer.optimizer.param_groups):
            trainer.log[-1][f"lr_{group.get('name', k)}"] = float(group["lr"])


@final
class Throughput(Callback):
    """Add how fast the epoch was trained to its row: pictures a second, and the share of waiting.

    The columns are ``seconds`` from the start of the epoch to the end of its last step, without
    validation; ``pictures_per_second``, over all ranks; and ``waiting``, the share of the time in
    which training waited for data: where it is more than a few hundredths, more workers or
    pictures in memory help. Of an epoch that was entered by resuming, it is the part since then.

    Example:
        >>> from siamlearn.nn.losses import ContrastiveLoss
        >>> from siamlearn.train.trainer import Trainer
        >>> net = torch.nn.Linear(3, 2)
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> batches = [(torch.eye(3), torch.tensor([0, 0, 1]))]
        >>> trainer = Trainer(net, ContrastiveLoss(), optimizer, callbacks=[Throughput()])
        >>> trainer.fit(batches, epochs=1).log[0]["seconds"] > 0
        True
    """

    def __init__(self) -> None:
        self._begun = self._ended = self._waited = 0.0
        self._pictures = 0

    def on_epoch_start(self, trainer: Trainer) -> None:
        self._begun = time.perf_counter()
        self._pictures, self._waited = 0, trainer.waited

    def on_step_end(self, trainer: Trainer) -> None:
        self._ended = time.perf_counter()
        self._pictures += trainer.pictures

    def on_epoch_end(self, trainer: Trainer) -> None:
        seconds = self._ended - self._begun
        row = trainer.log[-1]
        row["seconds"] = seconds
        if self._pictures:
            row["pictures_per_second"] = self._pictures / seconds
        row["waiting"] = (trainer.waited - self._waited) / seconds


@final
class PeakMemory(Callback):
    """Add the most memory that was in use so far to the epoch's row, in MiB.

    The columns are ``memory_mib``, of this process with all its libraries, but without the workers
    of a loader; and on CUDA ``gpu_memory_mib``, of the tensors on the device. Both count from the
    start of the program, so where a row has more than the one before, that epoch needed it.

    Example:
        >>> from siamlearn.nn.losses import ContrastiveLoss
        >>> from siamlearn.train.trainer import Trainer
        >>> net = torch.nn.Linear(3, 2)
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> batches = [(torch.eye(3), torch.tensor([0, 0, 1]))]
        >>> trainer = Trainer(net, ContrastiveLoss(), optimizer, callbacks=[PeakMemory()])
        >>> trainer.fit(batches, epochs=1).log[0].get("memory_mib", 100.0) > 10
        True
    """

    def on_epoch_end(self, trainer: Trainer) -> None:
        peak = _peak_memory()
        if peak is not None:
            trainer.log[-1]["memory_mib"] = peak
        if trainer.device.type == "cuda":
            most = torch.cuda.max_memory_allocated(trainer.device)
            trainer.log[-1]["gpu_memory_mib"] = most / 2**20


def _peak_memory() -> float | None:
    """The largest resident set of this process so far in MiB, where the system tells."""
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss would be that of the program that started this one, if it was larger.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    try:
        import resource
    except ModuleNotFoundError:  # on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
