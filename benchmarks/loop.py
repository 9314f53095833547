"""How fast is training? The notebook's net, picture size and batch, in one run, in turn.

    floor        forward, backward and optimizer step on tensors already in memory, nothing else,
                 in either memory format
    bare loop    what one writes by hand: a batch drawn, its bytes taken from memory, made
                 floats, and the same step; in either memory format
    siamlearn    Trainer, PairSampler and ContrastiveLoss, augmentation off; then with the default
                 augmentation, and every picture compared with every other
    Lightning    the same batches of pictures in memory, the same loss, no logger, no checkpoints
    PML trainer  pytorch-metric-learning's MetricLossOnly with its own ContrastiveLoss, and as many
                 pictures of the same set in a batch
    notebook     both files of each pair decoded and resized when they are asked for, two workers

The bare loop, siamlearn and Lightning are first seen to give the same weights after three steps.
A way is set against the floor, and against the bare loop, of the same turn, in the memory format
that is faster here; what is told is the middle of these ratios. What the Trainer adds to a bare
step is measured apart, on a net that takes next to no time, where it is not lost among the
differences from turn to turn.

python benchmarks/loop.py            # quiet machine, please: about six minutes
python benchmarks/loop.py --quick    # a few steps, to see that it works
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from results import table, write
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import siamlearn as sl

PAIRS = 16
SIDE = 100
MEMORIES = ("contiguous", "channels last")


def loss_of_pairs() -> sl.ContrastiveLoss:
    return sl.ContrastiveLoss(margin=2.0, pairing=sl.adjacent_pairs)


def adam(net: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.937, 0.999), weight_decay=1e-3)


def sgd(net: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(net.parameters(), lr=0.1)


def notebook_net() -> sl.EmbeddingNet:
    return sl.EmbeddingNet(sl.NetConfig.preset("notebook")).train()


class PairsOfFiles(Dataset[tuple[Tensor, Tensor, int]]):
    """The notebook's way: a pair is two files, read when it is asked for."""

    def __init__(self, folder: Path, length: int) -> None:
        self.people = [sorted(person.glob("*.pgm")) for person in sorted(folder.glob("s*"))]
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        draw = random.Random(index)
        one, other = draw.sample(self.people, 2)
        different = index % 2
        first, second = draw.choice(one), draw.choice(other if different else one)
        return self.read(first), self.read(second), different

    @staticmethod
    def read(path: Path) -> Tensor:
        with Image.open(path) as picture:
            small = picture.convert("L").resize((SIDE, SIDE))
        return torch.from_numpy(np.asarray(small).copy())[None].float() / 255


def loss_by_hand(embeddings: Tensor, same: Tensor) -> Tensor:
    left, right = embeddings.chunk(2)
    distance = (left - right).square().sum(dim=1).clamp(min=1e-12).sqrt()
    push = (2.0 - distance).relu().square()
    return torch.where(same, distance.square(), push).mean()


def floor(images: Tensor, same: Tensor, steps: int, memory: torch.memory_format) -> float:
    """Steps a second of nothing but the arithmetic."""
    net = notebook_net().to(memory_format=memory)
    images = images.contiguous(memory_format=memory)
    optimizer = adam(net)

    def step() -> None:
        loss = loss_by_hand(net(images), same)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return rate(lambda: [step() for _ in range(steps)], steps)


def bare(
    images: sl.ImageSet,
    steps: int,
    memory: torch.memory_format,
    net: nn.Module | None = None,
    optimizing: Any = adam,
) -> float:
    """Steps a second of a loop by hand, over the same batches."""
    net = (net or notebook_net()).to(memory_format=memory)
    optimizer = optimizing(net)
    sampler = sl.PairSampler(images.labels, pairs=PAIRS, batches=steps)

    def epoch() -> None:
        for batch in sampler:
            pictures, labels = images.pixels[batch].float() / 255, images.labels[batch]
            embeddings = net(pictures.contiguous(memory_format=memory))
            loss = loss_by_hand(embeddings, torch.eq(*labels.chunk(2)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return rate(epoch, steps)


def notebook(folder: Path, steps: int) -> float:
    """Steps a second when files are decoded for every pair."""
    net = notebook_net()
    optimizer = adam(net)
    loader = DataLoader(PairsOfFiles(folder, PAIRS * steps), batch_size=PAIRS, num_workers=2)

    def epoch() -> None:
        for left, right, different in loader:
            loss = loss_by_hand(torch.cat([net(left), net(right)]), different == 0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return rate(epoch, steps)


class InMemory(Dataset[tuple[Tensor, int]]):
    """One picture at a time, as the other trainers take them, from bytes in memory."""

    def __init__(self, images: sl.ImageSet) -> None:
        self.images, self.labels = images, images.labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images.pixels[index].float() / 255, self.labels[index]


def lightning(
    images: sl.ImageSet, steps: int, net: sl.EmbeddingNet | None = None, optimizer: Any = adam
) -> float:
    """Steps a second of Lightning, with everything off that can be off."""
    import lightning as ln

    class Module(ln.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net or notebook_net()

        def training_step(self, batch: list[Tensor], index: int) -> Tensor:
            pictures, labels = batch
            return loss_by_hand(self.net(pictures), torch.eq(*labels.chunk(2)))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return optimizer(self.net)

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    off = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    sampler = sl.PairSampler(images.labels, pairs=PAIRS, batches=steps)
    loader = DataLoader(InMemory(images), batch_sampler=[*sampler])
    trainer = ln.Trainer(max_epochs=1, accelerator="cpu", **off)
    module = Module()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rate(lambda: trainer.fit(module, loader), steps)


def pml(images: sl.ImageSet, steps: int) -> float:
    """Steps a second of pytorch-metric-learning's trainer."""
    from pytorch_metric_learning import losses, samplers, trainers

    logging.getLogger("PML").setLevel(logging.ERROR)
    net = notebook_net()
    sampler = samplers.MPerClassSampler(images.labels, 2, 2 * PAIRS, 2 * PAIRS * steps)
    trainer = trainers.MetricLossOnly(
        models={"trunk": net},
        optimizers={"trunk_optimizer": adam(net)},
        batch_size=2 * PAIRS,
        loss_funcs={"metric_loss": losses.ContrastiveLoss(pos_margin=0, neg_margin=2)},
        dataset=InMemory(images),
        sampler=sampler,
        dataloader_num_workers=0,
        iterations_per_epoch=steps,
        data_device=torch.device("cpu"),
    )
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its progress bar
        return rate(lambda: trainer.train(num_epochs=1), steps)


def siamlearn(
    images: sl.ImageSet,
    steps: int,
    augment: sl.Augment | None = None,
    loss: sl.ContrastiveLoss | None = None,
    net: nn.Module | None = None,
    optimizer: Any = adam,
) -> float:
    """Steps a second of the Trainer."""
    net = net or notebook_net()
    sampler = sl.PairSampler(images.labels, pairs=PAIRS, batches=steps)
    trainer = sl.Trainer(
        net, loss or loss_of_pairs(), optimizer(net), augment=augment, callbacks=()
    )
    return rate(lambda: trainer.fit(DataLoader(images, batch_sampler=sampler), epochs=1), steps)


def rate(work: Callable[[], object], steps: int) -> float:
    start = time.perf_counter()
    work()
    return steps / (time.perf_counter() - start)


def check(images: sl.ImageSet) -> None:
    """Three ways to go three steps give the same weights."""
    torch.manual_seed(0)
    first = notebook_net().state_dict()
    nets = [notebook_net() for _ in range(3)]
    for net in nets:
        net.load_state_dict(first)
    siamlearn(images, 3, net=nets[0], optimizer=sgd)
    lightning(images, 3, net=nets[1], optimizer=sgd)
    bare(images, 3, torch.contiguous_format, net=nets[2], optimizing=sgd)
    # Not with Adam: biases before a batch norm have no gradient but rounding, and Adam follows it.
    for net in nets[:2]:
        torch.testing.assert_close(net.state_dict(), nets[2].state_dict(), rtol=1e-4, atol=1e-5)


def pgm_folder(images: sl.ImageSet, root: Path) -> Path:
    """The pictures as files, for the notebook's way, whatever they were read from."""
    for pixels, name in zip(images.pixels, images.names, strict=True):
        path = (root / name).with_suffix(".pgm")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0].numpy()).save(path)
    return root


def pictures() -> sl.ImageSet:
    root = sl.find_att_faces()
    return sl.DrawnFaces() if root is None else sl.ATTFaces(root)


def measure(steps: int, repeats: int) -> dict[str, list[float]]:
    faces = pictures()
    small = faces.resized((SIDE, SIDE))
    check(small)
    batch = sl.PairSampler(small.labels, pairs=PAIRS, batches=1).batch(0, 0)
    images, labels = small.pixels[batch].float() / 255, small.labels[batch]
    same = torch.eq(*labels.chunk(2))
    every = sl.ContrastiveLoss(margin=2.0)
    with tempfile.TemporaryDirectory() as folder:
        files = pgm_folder(faces, Path(folder))
        ways: dict[str, Callable[[], float]] = {
            "floor, contiguous": lambda: floor(images, same, steps, torch.contiguous_format),
            "floor, channels last": lambda: floor(images, same, steps, torch.channels_last),
            "bare loop, contiguous": lambda: bare(small, steps, torch.contiguous_format),
            "bare loop, channels last": lambda: bare(small, steps, torch.channels_last),
            "siamlearn": lambda: siamlearn(small, steps),
            "siamlearn, augmented": lambda: siamlearn(small, steps, sl.Augment()),
            "siamlearn, all pairs": lambda: siamlearn(small, steps, loss=every),
            "Lightning": lambda: lightning(small, steps),
            "PML trainer": lambda: pml(small, steps),
            "notebook": lambda: notebook(files, steps),
        }
        for way in ways.values():
            way()  # warm up: the first run pays for imports and allocations
        found: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeats):
            for name, way in ways.items():
                found[name].append(way())
    return found


def overhead(images: sl.ImageSet, found: dict[str, list[float]], repeats: int) -> dict[str, Any]:
    """What the Trainer adds to a step by hand, and how much that is of the notebook's."""
    added = []
    for _ in range(repeats):
        ours = siamlearn(images, 500, net=idle())
        added.append(1 / ours - 1 / bare(images, 500, torch.contiguous_format, net=idle()))
    spent = statistics.median(added)
    step = 1 / max(statistics.median(found[f"bare loop, {memory}"]) for memory in MEMORIES)
    return {"microseconds a step": round(1e6 * spent), "of a bare step": round(spent / step, 4)}


def idle() -> nn.Module:
    return nn.Sequential(nn.AvgPool2d(10), nn.Flatten(), nn.Linear((SIDE // 10) ** 2, 16))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60, help="steps a run")
    parser.add_argument("--repeats", type=int, default=15, help="runs of each way, in turn")
    parser.add_argument("--quick", action="store_true", help="a few; nothing is written")
    args = parser.parse_args()
    small = pictures().resized((SIDE, SIDE))
    if args.quick:
        found = measure(steps=10, repeats=1)
        sys.stdout.write(table([*rows(found)]) + f"\n{overhead(small, found, repeats=1)}\n")
        return
    settings = {"pairs": PAIRS, "side": SIDE, "steps": args.steps}
    found = measure(args.steps, args.repeats)
    added = overhead(small, found, args.repeats)
    sys.stdout.write(f"{added}\n")
    write("loop", rows(found), settings=settings, overhead=added)


def rows(found: dict[str, list[float]]) -> list[dict[str, Any]]:
    """What is told of each way."""
    told = []
    for name, rates in found.items():
        row = {"way": name, "pictures a second": round(2 * PAIRS * statistics.median(rates))}
        row["batches a second"] = round(statistics.median(rates), 1)
        for other in ("floor", "bare loop"):
            # Turn by turn: the machine may be quicker in one than in the next.
            formats = [found[f"{other}, {memory}"] for memory in MEMORIES]
            pairs = zip(rates, max(formats, key=statistics.median), strict=True)
            row[f"of the {other}"] = round(statistics.median(a / b for a, b in pairs), 3)
        told.append({**row, "runs": [round(value, 1) for value in rates]})
    return told


if __name__ == "__main__":
    main()
