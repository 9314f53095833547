"""How fast is training? The notebook's net, picture size and batch, three ways in one run, in turn.

    floor     forward, backward and optimizer step on tensors already in memory, nothing else,
              in the memory format that is faster here
    siamlearn Trainer, PairSampler and ContrastiveLoss, augmentation off
    augmented the same with the default augmentation
    all pairs the same batches without augmentation, every picture compared with every other
    notebook  both files of each pair decoded and resized when they are asked for, two workers

python benchmarks/throughput.py            # quiet machine, please: about four minutes
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from results import write
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import siamlearn as sl

PAIRS = 16
SIDE = 100


def loss_of_pairs() -> sl.ContrastiveLoss:
    return sl.ContrastiveLoss(margin=2.0, pairing=sl.adjacent_pairs)


def adam(net: torch.nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.937, 0.999), weight_decay=1e-3)


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


def floor(images: Tensor, same: Tensor, steps: int, memory: torch.memory_format) -> float:
    """Steps a second of nothing but the arithmetic."""
    net = notebook_net().to(memory_format=memory)
    images = images.contiguous(memory_format=memory)
    optimizer = adam(net)

    def step() -> None:
        left, right = net(images).chunk(2)
        distance = (left - right).square().sum(dim=1).clamp(min=1e-12).sqrt()
        push = (2.0 - distance).relu().square()
        loss = torch.where(same, distance.square(), push).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return rate(lambda: [step() for _ in range(steps)], steps)


def notebook(folder: Path, steps: int) -> float:
    """Steps a second when files are decoded for every pair."""
    net = notebook_net()
    optimizer = adam(net)
    loader = DataLoader(PairsOfFiles(folder, PAIRS * steps), batch_size=PAIRS, num_workers=2)

    def epoch() -> None:
        for left, right, different in loader:
            distance = torch.nn.functional.pairwise_distance(net(left), net(right))
            push = (2.0 - distance).relu().square()
            loss = torch.where(different == 0, distance.square(), push).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return rate(epoch, steps)


def siamlearn(
    images: sl.ImageSet,
    steps: int,
    augment: sl.Augment | None = None,
    loss: sl.ContrastiveLoss | None = None,
) -> float:
    """Steps a second of the Trainer."""
    net = notebook_net()
    sampler = sl.PairSampler(images.labels, pairs=PAIRS, batches=steps)
    trainer = sl.Trainer(net, loss or loss_of_pairs(), adam(net), augment=augment, callbacks=())
    return rate(lambda: trainer.fit(DataLoader(images, batch_sampler=sampler), epochs=1), steps)


def rate(work: Callable[[], object], steps: int) -> float:
    start = time.perf_counter()
    work()
    return steps / (time.perf_counter() - start)


def pgm_folder(images: sl.ImageSet, root: Path) -> Path:
    """The pictures as files, for the notebook's way, whatever they were read from."""
    for pixels, name in zip(images.pixels, images.names, strict=True):
        path = (root / name).with_suffix(".pgm")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0].numpy()).save(path)
    return root


def measure(steps: int, repeats: int) -> dict[str, list[float]]:
    root = sl.find_att_faces()
    faces = sl.DrawnFaces() if root is None else sl.ATTFaces(root)
    small = faces.resized((SIDE, SIDE))
    batch = sl.PairSampler(small.labels, pairs=PAIRS, batches=1).batch(0, 0)
    images, labels = small.pixels[batch].float() / 255, small.labels[batch]
    same = torch.eq(*labels.chunk(2))
    every = sl.ContrastiveLoss(margin=2.0)
    with tempfile.TemporaryDirectory() as folder:
        files = pgm_folder(faces, Path(folder))
        ways: dict[str, Callable[[], float]] = {
            "floor, contiguous": lambda: floor(images, same, steps, torch.contiguous_format),
            "floor, channels last": lambda: floor(images, same, steps, torch.channels_last),
            "siamlearn": lambda: siamlearn(small, steps),
            "siamlearn, augmented": lambda: siamlearn(small, steps, sl.Augment()),
            "siamlearn, all pairs": lambda: siamlearn(small, steps, loss=every),
            "notebook": lambda: notebook(files, steps),
        }
        for way in ways.values():
            way()  # warm up: the first run pays for imports and allocations
        found: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeats):
            for name, way in ways.items():
                found[name].append(way())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=150, help="steps a run")
    parser.add_argument("--repeats", type=int, default=7, help="runs of each way, in turn")
    args = parser.parse_args()
    found = measure(args.steps, args.repeats)
    best = max(("floor, contiguous", "floor, channels last"), key=lambda k: np.median(found[k]))
    pictures = 2 * PAIRS
    rows = []
    for name, rates in found.items():
        against = statistics.median(a / b for a, b in zip(rates, found[best], strict=True))
        pairs = pictures * (pictures - 1) if "all pairs" in name else PAIRS
        rows.append(
            {
                "way": name,
                "batches a second": round(statistics.median(rates), 1),
                "of the floor": round(against, 3),
                "pairs a second": round(pairs * statistics.median(rates)),
                "runs": [round(value, 1) for value in rates],
            }
        )
    write("throughput", rows, settings={"pairs": PAIRS, "side": SIDE, "steps": args.steps})


if __name__ == "__main__":
    main()
