"""The page on other trainers: each of its loops, on one rank and on two, gives the same net."""

import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import siamlearn as sl
from siamlearn.nn.losses import ProxyAnchorLoss
from siamlearn.nn.references import Memory, Proxies
from train.on_ranks import on_ranks

PAGE = Path(__file__).parents[1] / "docs" / "howto" / "other_trainers.md"
# Lightning asks in a way that torch has deprecated, and advises on workers and logs.
QUIET = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*(does not have many workers|logging interval)"),
]
LOSSES = {
    "pairs": sl.SupConLoss,
    "proxies": lambda: ProxyAnchorLoss(references=Proxies(6, 4)),
    "a sample of proxies": lambda: ProxyAnchorLoss(references=Proxies(30, 4, sample=0.5)),
    "a memory": lambda: sl.ContrastiveLoss(references=Memory(16, warm_up=1)),
}
OPTIONAL = {  # by what a block has in it: who needs it, and from which version on
    "from accelerate": ("accelerate", None),
    "from lightning": ("lightning", None),
    "fully_shard": ("torch", "2.6"),
}
SILENT = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
OTHERS = [
    pytest.param("train_on_ranks", id="by hand"),
    pytest.param("train_with_ddp", id="DistributedDataParallel"),
    pytest.param("train_with_fsdp", id="FSDP"),
    pytest.param("train_with_accelerate", id="accelerate"),
    pytest.param("train_with_lightning", id="Lightning", marks=QUIET),
]


@cache
def page() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def on_the_page(name: str) -> Any:
    """A function of the page; the test is skipped where the trainer it needs is not installed."""
    space: dict[str, Any] = {}
    for block in page():
        needed = [each for text, each in OPTIONAL.items() if text in block]
        if needed and f"def {name}(" not in block:
            continue
        for package, version in needed:
            pytest.importorskip(package, minversion=version, reason=f"{package} is not installed")
        exec(block, space)
    return space[name]


@pytest.fixture(autouse=True)
def doubles():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def a_net(*, norm=True) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 3, 3),
            nn.BatchNorm2d(3) if norm else nn.Identity(),
            nn.LeakyReLU(),
            nn.Flatten(),
            nn.Linear(48, 4),
        )


def pictures() -> sl.ImageSet:
    generator = torch.Generator().manual_seed(0)
    return sl.from_arrays(
        torch.randint(256, (18, 1, 6, 6), generator=generator, dtype=torch.uint8),
        torch.arange(6).repeat_interleave(3),
    )


def outcome(train, loss: str, *, norm=True, **options) -> dict[str, torch.Tensor]:
    """Everything that a training has changed, but for what a memory has in the order of ranks."""
    criterion, net = LOSSES[loss](), a_net(norm=norm)
    train(pictures(), net, criterion, **options)
    learned = {} if loss == "a memory" else criterion.state_dict()
    found = {**net.state_dict(), **{f"loss.{name}": value for name, value in learned.items()}}
    return {name: whole(value.detach()).clone() for name, value in found.items()}


def whole(value: torch.Tensor) -> torch.Tensor:
    """A weight of which each rank may have a part."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def options_of(name: str, **more) -> dict[str, Any]:
    return {**SILENT, **more} if "lightning" in name else {}


def as_torchrun_says(rank: int, count: int) -> None:
    """What accelerate and Lightning read to know that they are one rank of several."""
    said = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    said |= {"GROUP_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 29500}
    said |= {"TORCHELASTIC_RUN_ID": "tests", "OMP_NUM_THREADS": 1}
    os.environ.update({name: str(value) for name, value in said.items()})
    if "accelerate" in sys.modules:  # which asks once for all, and was forked
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)


def on_two_ranks(folder: Path, name: str, loss: str) -> list[Any]:
    train = on_the_page(name)

    def work(rank: int) -> dict[str, torch.Tensor]:
        as_torchrun_says(rank, 2)
        return outcome(train, loss, **options_of(name, devices=2, strategy="ddp"))

    return on_ranks(2, folder, work)


def assert_close(found, expected):
    assert not isinstance(found, str), found
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_training_changes_the_net_and_the_proxies():
    before = {**a_net().state_dict(), "loss.references.vectors": Proxies(6, 4).vectors}
    after = outcome(on_the_page("train"), "proxies")

    same = [name for name, value in before.items() if torch.equal(value, after[name])]
    assert not same


@pytest.mark.parametrize(
    "name", [by for by in OTHERS if by.id not in ("DistributedDataParallel", "FSDP")]
)
@pytest.mark.parametrize("loss", LOSSES)
def test_each_trainer_on_one_process_is_the_loop_by_hand(name, loss):
    found = outcome(on_the_page(name), loss, **options_of(name, devices=1))

    assert_close(found, outcome(on_the_page("train"), loss))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", OTHERS)
def test_two_ranks_are_one_process(tmp_path, name, loss):
    said = on_two_ranks(tmp_path, name, loss)

    expected = outcome(on_the_page("train"), loss)
    for each in said:
        assert_close(each, expected)


def test_without_the_number_of_ranks_the_gradient_of_ddp_is_half(tmp_path, monkeypatch):
    halved = [block.replace("(ranks * cost(", "(1 * cost(") for block in page()]
    assert halved != page()
    monkeypatch.setitem(globals(), "page", lambda: halved)

    with pytest.raises(AssertionError, match="not close"):
        test_two_ranks_are_one_process(tmp_path, "train_with_ddp", "pairs")


@pytest.mark.parametrize("loss", LOSSES)
def test_pieces_are_the_whole_batch(loss):
    found = outcome(on_the_page("train_in_pieces"), loss, norm=False)

    assert_close(found, outcome(on_the_page("train"), loss, norm=False))
