"""How far does it go? Memory and time over pictures, batch, identities and ranks, beside a model.

Each row is measured in processes of its own, one thread each, and stands beside what the model of
docs/explanation/scale.md says. Bytes are computed from shapes alone: what a net keeps of a picture
for its backward pass is counted on two pictures. Times are those of the first row of a table,
scaled; those of ranks are of half of the batch in each of two processes at once, which share this
machine but know nothing of each other, and of what one message of that backend takes here.

python benchmarks/scale.py            # quiet machine, please: about six minutes
python benchmarks/scale.py --quick    # small sizes, to see that it works
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import socket
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from results import FOLDER, table, write
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.data import DataLoader

import siamlearn as sl
from siamlearn import ranks
from siamlearn.nn.losses import ArcFaceLoss
from siamlearn.nn.synchronised import synchronised

SHAPE = (1, 56, 46)  # what ``fit`` makes of a picture of 112 x 92
BATCH, DIMENSIONS = 64, 128  # where the identities grow
SHARE = 0.1  # of the identities in a sample
SIZES: dict[str, list[Any]] = {
    "pictures": [10_000, 40_000, 160_000, 640_000],
    "batch": [128, 256, 512, 1024],
    "pieces": [1024, 4096],
    "identities": [25_000, 100_000, 400_000],
    "ranks": [128, 512],
}
QUICK: dict[str, list[Any]] = {
    "pictures": [5_000, 20_000],
    "batch": [64, 128],
    "pieces": [256],
    "identities": [10_000, 40_000],
    "ranks": [64],
}
PIECE = 64  # pictures in a micro-batch
MESSAGES = 30  # in a step: batch norms both ways, embeddings, the gradient, what all agree on
WAYS = ("all, AdamW", "sample, AdamW", "sample, sparse, SGD")
MMAP_THRESHOLD = -3  # as malloc.h has it
MB = 1e6
Row = dict[str, Any]


# --- The model ------------------------------------------------------------------------------------


def bytes_of_pictures(n: int, shape: tuple[int, int, int] = SHAPE) -> float:
    """A byte a pixel, eight for the label, and about 70 for a name of 13 letters."""
    channels, height, width = shape
    return n * (channels * height * width + 8 + 70)


def kept_of_a_picture(net: nn.Module, shape: tuple[int, int, int]) -> float:
    """Bytes that a net keeps of one picture until the backward pass, counted on two and on four."""
    weights = {weight.untyped_storage().data_ptr() for weight in net.parameters()}

    def kept(n: int) -> int:
        tensors: list[Tensor] = []

        def keep(tensor: Tensor) -> Tensor:
            tensors.append(tensor)
            return tensor

        with synchronised(net), saved_tensors_hooks(keep, lambda tensor: tensor):
            out = net(torch.rand(n, *shape))
        found = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
        del out
        return sum(size for place, size in found.items() if place not in weights)

    return (kept(4) - kept(2)) / 2


def bytes_of_step(
    net: sl.EmbeddingNet, batch: int, *, piece: int | None = None, gathered: int | None = None
) -> float:
    """What a step needs: per picture in a piece, per picture of the batch, and per weight."""
    pixels = SHAPE[0] * SHAPE[1] * SHAPE[2]
    dimensions = net(torch.zeros(2, *SHAPE)).shape[1]
    weights = sum(weight.numel() for weight in net.parameters())
    at_once = min(batch, piece or batch)
    # Of the batch: bytes, and embeddings with both of their gradients. Of a weight: the gradient;
    # the weight itself and both moments of AdamW are there already.
    return (
        at_once * (kept_of_a_picture(net, SHAPE) + 4 * pixels)
        + batch * pixels
        + (gathered or batch) * 3 * 4 * dimensions
        + weights * 4
    )


def bytes_of_identities(classes: int, dimensions: int, way: str) -> float:
    """The vectors, their gradient, and what the optimizer remembers of them."""
    vectors, strip = 4 * classes * dimensions, 4 * classes * 64
    # In the loss: unit vectors, their gradient, and of 64 rows of pairs the distances, slopes,
    # exponentials and masks. In AdamW, which remembers two moments: two copies while it computes.
    in_loss, in_adamw = 2 * vectors + 3.5 * strip, 3 * vectors
    return {
        "all, AdamW": 3 * vectors + max(in_loss, in_adamw),
        "sample, AdamW": 3 * vectors + max(SHARE * in_loss + vectors, in_adamw),
        # Most is needed when they are drawn and scaled to length 1; later on only the sample.
        "sample, sparse, SGD": vectors + max(SHARE * (in_loss + vectors), vectors),
    }[way]


def bytes_sent(net: sl.EmbeddingNet, batch: int) -> float:
    """What a rank sends in a step: gradients of all weights, embeddings and their gradients."""
    weights = sum(weight.numel() for weight in net.parameters())
    dimensions = net(torch.zeros(2, *SHAPE)).shape[1]
    return 4 * (weights + 2 * batch * dimensions)


# --- What is measured, each in a process of its own -----------------------------------------------


def pictures(n: int) -> sl.ImageSet:
    """Of four an identity."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (n, *SHAPE), dtype=torch.uint8, generator=generator)
    people, names = [f"{i:06}" for i in range(n // 4)], [f"{i:06}/{i % 4}.png" for i in range(n)]
    return sl.ImageSet(pixels, torch.arange(n) // 4, identities=people, names=names)


def a_net() -> sl.EmbeddingNet:
    return sl.EmbeddingNet(sl.NetConfig.preset("small", input=SHAPE)).train()


def measured_pictures(n: int) -> Row:
    pictures(1_000)  # loads the code
    before = resident("VmRSS")
    images = pictures(n)
    memory = resident("VmRSS") - before
    sampler = sl.BalancedSampler(images.labels, identities=16, images=4)

    def batch() -> None:
        indices = torch.tensor(sampler.batch(0, 3))
        images.pixels.index_select(0, indices)

    return {"memory": memory, "seconds": seconds(batch, 50)}


def measured_batch(batch: int, piece: int | None = None) -> Row:
    """Steps of the Trainer; also what one rank of several does, if it is started as one."""
    images = pictures(max(2048, 2 * batch))
    net = a_net()
    trainer = sl.Trainer(
        net, sl.SupConLoss(), adamw(net), callbacks=(), device="cpu", micro_batch=piece
    )
    rank, count = ranks.world()
    trainer.fit(loader(images, 8 * count), epochs=1)  # loads the code, and makes the moments
    training = loader(images, batch)
    forget()
    before = resident("VmRSS")
    start = time.perf_counter()
    trainer.fit(training, epochs=2)
    spent = time.perf_counter() - start
    share = batch * (rank + 1) // count - batch * rank // count
    return {
        "memory": resident("VmHWM") - before,
        "seconds": spent / len(training),
        "model": bytes_of_step(a_net(), share, piece=piece, gathered=batch),
        "sent": bytes_sent(net, batch),
        **messages(),
    }


def loader(images: sl.ImageSet, batch: int) -> DataLoader[Any]:
    """Batches of four pictures of each identity; enough of them for a second or so."""
    sampler = sl.BalancedSampler(
        images.labels, identities=batch // 4, images=4, batches=max(2, 512 // batch)
    )
    return DataLoader(images, batch_sampler=sampler)


def measured_identities(classes: int, way: str) -> Row:
    """A loss over classes, its backward pass and its optimizer, without a net."""
    embeddings = torch.randn(BATCH, DIMENSIONS, requires_grad=True)
    step(ArcFaceLoss(100, DIMENSIONS, sample=SHARE), embeddings % 1, way)()
    forget()
    before = resident("VmRSS")
    sample = None if way.startswith("all") else SHARE
    loss = ArcFaceLoss(classes, DIMENSIONS, sample=sample, sparse="sparse" in way)
    once = step(loss, embeddings, way)
    once()
    times = [seconds(once, 1) for _ in range(5)]
    return {"memory": resident("VmHWM") - before, "seconds": statistics.median(times)}


def step(loss: nn.Module, embeddings: Tensor, way: str) -> Callable[[], None]:
    labels = torch.arange(BATCH) // 4
    sgd = way.endswith("SGD")
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1) if sgd else adamw(loss)

    def once() -> None:
        optimizer.zero_grad()
        loss(embeddings, labels).backward()
        optimizer.step()

    return once


def adamw(module: nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW(module.parameters(), lr=1e-3)


def messages() -> Row:
    """Seconds that the shortest message between ranks takes, and each byte of a long one."""
    if ranks.alone():
        return {}

    def sent(numbers: int) -> float:
        message = torch.zeros(numbers)
        return statistics.median(seconds(lambda: ranks.total(message), 1) for _ in range(9))

    short, long = sent(1), sent(2**22)
    return {"message": short, "byte": (long - short) / (4 * 2**22)}


def seconds(work: Callable[[], object], times: int) -> float:
    work()
    start = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - start) / times


def forget() -> None:
    """The highest resident size so far."""
    Path("/proc/self/clear_refs").write_text("5")


def resident(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return float(found[1]) * 1024


# --- Processes and tables -------------------------------------------------------------------------


def apart(measure: Callable[..., Row], *given: Any, count: int = 1, strangers: bool = False) -> Row:
    """Memory and time, each measured in processes that are forked for it: one, or several ranks.

    Strangers run at the same time, and do not know of each other.

    The C library keeps what was freed, a quarter more than is needed, and not the same each time.
    Where memory is measured, it is therefore told to give everything back.
    """
    needed, quick = (
        _answers(measure, given, count, frugal=frugal, strangers=strangers)
        for frugal in (True, False)
    )
    most = max(needed, key=lambda each: each["memory"])
    return {**quick[0], "memory": most["memory"], "model": most.get("model")}


def _answers(
    measure: Callable[..., Row],
    given: tuple[Any, ...],
    count: int,
    *,
    frugal: bool,
    strangers: bool,
) -> list[Row]:
    forked = get_context("fork")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    answers = [forked.SimpleQueue() for _ in range(count)]
    children = []
    for rank, answer in enumerate(answers):
        said = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 1 if strangers else count}
        said |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        work = partial(_child, measure, given, said, answer, frugal=frugal)
        children.append(forked.Process(target=work))
        children[-1].start()
    for child in children:
        child.join()
        if child.exitcode:
            msg = f"{measure.__name__} {given} failed on {count} ranks; see above"
            raise SystemExit(msg)
    return [answer.get() for answer in answers]


def _child(
    measure: Callable[..., Row],
    given: tuple[Any, ...],
    said: dict[str, Any],
    answer: Any,
    *,
    frugal: bool,
) -> None:
    os.environ.update({name: str(value) for name, value in said.items()})
    if frugal:
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, 1 << 16)
    ranks.joined("cpu")
    answer.put(measure(*given))
    if not ranks.alone():
        torch.distributed.destroy_process_group()


def row(names: Row, found: Row, memory: float, time_: float | None) -> Row:
    """Measured beside the model; a time that the model takes from here has none."""
    return {
        **names,
        "MB": round(found["memory"] / MB, 1),
        "model, MB": round(memory / MB, 1),
        "of the model": round(found["memory"] / memory, 2),
        "ms": round(1000 * found["seconds"], 3),
        "model, ms": None if time_ is None else round(1000 * time_, 3),
    }


def table_of_pictures(sizes: Iterable[int]) -> list[Row]:
    rows, first = [], None
    for n in sizes:
        found = apart(measured_pictures, n)
        rows.append(row({"pictures": n}, found, bytes_of_pictures(n), first))
        first = first or found["seconds"]
    return rows


def table_of_batches(whole: Iterable[int], pieces: Iterable[int]) -> list[Row]:
    rows, per_picture = [], None
    for batch, piece in [*((n, None) for n in whole), *((n, PIECE) for n in pieces)]:
        found = apart(measured_batch, batch, piece)
        # In pieces the net goes forward twice and back once: four instead of three thirds.
        model = per_picture and per_picture * batch * (1 if piece is None else 4 / 3)
        names = {"batch": batch, "micro-batch": piece}
        rows.append(row(names, found, found["model"], model))
        per_picture = per_picture or found["seconds"] / batch
    return rows


def table_of_identities(sizes: Iterable[int]) -> list[Row]:
    rows = []
    for way in WAYS:
        per_class = None
        for classes in sizes:
            found = apart(measured_identities, classes, way)
            model = per_class and per_class * classes
            memory = bytes_of_identities(classes, DIMENSIONS, way)
            rows.append(row({"identities": classes, "way": way}, found, memory, model))
            per_class = per_class or found["seconds"] / classes
    return rows


def table_of_ranks(sizes: Iterable[int]) -> list[Row]:
    rows = []
    for batch in sizes:
        half = apart(measured_batch, batch // 2, count=2, strangers=True)
        for count in (1, 2):
            found = apart(measured_batch, batch, count=count)
            names = {"batch": batch, "ranks": count, "sent, MB": None}
            model = None
            if count > 1:
                names["sent, MB"] = round(found["sent"] / MB, 2)
                net_time = half["seconds"]
                model = net_time + MESSAGES * found["message"] + found["sent"] * found["byte"]
            rows.append(row(names, found, found["model"], model))
    return rows


TABLES: dict[str, Callable[[dict[str, list[Any]]], list[Row]]] = {
    "pictures": lambda sizes: table_of_pictures(sizes["pictures"]),
    "batch": lambda sizes: table_of_batches(sizes["batch"], sizes["pieces"]),
    "identities": lambda sizes: table_of_identities(sizes["identities"]),
    "ranks": lambda sizes: table_of_ranks(sizes["ranks"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=[*TABLES], help="measure this table anew")
    parser.add_argument("--quick", action="store_true", help="small sizes; nothing is written")
    args = parser.parse_args()
    torch.set_num_threads(1)  # or the processes could not be forked
    warnings.filterwarnings("ignore", message=".*batch norms take their statistics")
    sizes = QUICK if args.quick else SIZES
    tables = {}
    if args.only and not args.quick:  # what was measured of the others stays
        kept = json.loads((FOLDER / "scale.json").read_text())
        tables = {name: kept[name] for name in TABLES}
    for name, measured in TABLES.items():
        if args.only in (None, name):
            tables[name] = measured(sizes)
    if args.quick:
        for rows in tables.values():
            sys.stdout.write(table(rows) + "\n\n")
        return
    write("scale", summary(tables), **tables)


def summary(tables: dict[str, list[Row]]) -> list[Row]:
    """How far the model is off, table by table."""
    rows = []
    for name, table_ in tables.items():
        timed = [each["ms"] / each["model, ms"] for each in table_ if each["model, ms"]]
        off = [each["of the model"] for each in table_]
        spans = {
            "memory of the model": f"{min(off):.2f} to {max(off):.2f}",
            "time of the model": f"{min(timed):.2f} to {max(timed):.2f}",
        }
        rows.append({"what grows": name, **spans})
    return rows


if __name__ == "__main__":
    main()
