"""A program as anybody writes it, which says nothing of ranks: a net of one's own, and ``fit``.

``a_script.py FOLDER PART [FAULT]``. What goes wrong, if anything should, is a callback's work.
"""

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

import siamlearn as sl

STEPS, EPOCHS = 6, 3
# Rank and step at which each life ends; the last one is not cut short.
KILLS = {"trainer": [(1, 8), (0, 14), (9, 0)], "fit": [(1, 3), (0, 11), (9, 0)]}


class Fault(sl.Callback):
    """Something that happens at a step; it leaves a word that it did."""

    def __init__(self, folder: Path, kind: str, part: str) -> None:
        self.folder, self.kind, self.kills = folder, kind, KILLS[part]
        self.life = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))

    def on_step_end(self, trainer: sl.Trainer) -> None:
        rank = int(os.environ.get("RANK", "0"))
        if self.kind == "slow":
            time.sleep(0.1)
        elif self.kind == "kills" and (rank, trainer.step) == self.kills[self.life]:
            self._note(f"rank {rank} was killed")
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.kind == "callback" and (rank, trainer.step) == (1, 8):
            self._note("a callback failed")
            msg = "this callback is broken"
            raise KeyError(msg)
        elif self.kind == "step" and (rank, trainer.step) == (1, 8):
            self._note("a step failed")
            trainer.net.register_forward_pre_hook(_short_of_memory)
        elif self.kind == "disk" and (rank, trainer.step) == (0, 8):
            self._note("the disk is full")
            sl.train.checkpoint.save = _no_space

    def _note(self, what: str) -> None:
        with (self.folder / "faults.txt").open("a") as file:
            file.write(f"{what} after {time.time()}\n")


def _short_of_memory(*given: object) -> None:
    msg = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte"
    raise RuntimeError(msg)


def _no_space(*given: object, **options: object) -> None:
    raise OSError(28, "No space left on device")


def trained(folder: Path, fault: str) -> None:
    faces = sl.DrawnFaces(identities=8, pictures=4, size=(14, 12))
    train, held_out = faces.split_identities(held_out=0.25, seed=0)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.LeakyReLU(), nn.Flatten(), nn.Linear(360, 4)
    )
    sampler = sl.PairSampler(train.labels, pairs=5, batches=STEPS, seed=0)
    batches = DataLoader(train, batch_sampler=sampler)
    kept = folder / "checkpoints"
    watch = [sl.Evaluate(held_out)]
    if not fault:
        watch += [sl.Summary(), sl.Plots(held_out, folder / "plots", every=EPOCHS)]
        watch.append(sl.LogCSV(folder / "log.csv"))
    trainer = sl.Trainer(
        net,
        sl.ContrastiveLoss(),
        torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9),
        augment=sl.Augment(),
        callbacks=[
            sl.Progress(every=0),
            *watch,
            Fault(folder, fault, "trainer"),
            sl.Checkpoint(kept, steps=2, keep=None),
            sl.LogLines(folder / "metrics.jsonl"),
        ],
    )
    trainer.fit(batches, epochs=EPOCHS, validation=batches, resume=kept)


def fitted(folder: Path, fault: str) -> None:
    faces = sl.DrawnFaces(identities=8, pictures=4, size=(28, 23))
    train, held_out = faces.split_identities(held_out=0.25, seed=0)
    net = sl.NetConfig.preset("small", input=faces.shape)
    sl.fit(
        train,
        validation=held_out,
        epochs=6 if fault else 2,
        net=replace(net, dropout=0.0),  # which ranks draw each for themselves
        identities=3,
        learning_rate=1e-5,
        precision="float32",
        folder=folder / "runs",
        resume=bool(fault),
        callbacks=[sl.Progress(every=0), Fault(folder, fault, "fit")],
    )


def main(folder: str, part: str = "both", fault: str = "") -> None:
    torch.set_num_threads(1)
    if part in ("both", "trainer"):
        torch.set_default_dtype(torch.float64)
        trained(Path(folder), fault)
        torch.set_default_dtype(torch.float32)
    if part in ("both", "fit"):
        fitted(Path(folder), fault)


if __name__ == "__main__":
    main(*sys.argv[1:])
