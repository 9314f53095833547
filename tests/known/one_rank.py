"""One rank of several: tries its part of every case, and leaves what came out in a folder."""

import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from known.together import cases, outcome


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    said = {}
    by_world: dict[int, list[str]] = {}
    for name, case in cases().items():
        by_world.setdefault(len(case.sizes), []).append(name)
    for world, names in sorted(by_world.items()):
        if rank >= world:
            continue
        dist.init_process_group(
            "gloo",
            init_method=f"file://{folder}/meeting of {world}",
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=60),
        )
        for name in names:
            case = cases()[name]
            batch, labels = case.batch()
            said[name] = outcome(case, batch[case.part(rank)], labels[case.part(rank)])
        dist.destroy_process_group()
    torch.save(said, folder / f"said by {rank}")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
