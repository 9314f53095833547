"""What every loss must do for the machine: be captured whole, and never wait for a number."""

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from known import LOSSES
from known.compiled import TO_MACHINE_CODE, Compiled
from known.others import OTHERS, another
from known.trials import a_batch, a_module, assert_same, every_loss, with_gradient

# What makes the machine wait for a number, or for how many there are.
WAITING = {
    "_local_scalar_dense",
    "item",
    "is_nonzero",
    "equal",
    "nonzero",
    "masked_select",
    "_unique",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "bincount",
}


@pytest.fixture(scope="module")
def compiled() -> dict[str, Compiled]:
    with TemporaryDirectory() as folder:
        file = Path(folder, "compiled")
        run = [sys.executable, "-m", "known.compiled", str(file)]
        done = subprocess.run(
            run, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return {name: Compiled(*said) for name, said in torch.load(file).items()}


@pytest.mark.parametrize("name", [*(loss.name for loss in LOSSES), *OTHERS])
def test_compilation_captures_the_whole_and_changes_nothing(name, compiled):
    one = compiled[name]

    assert not one.error
    assert_same(tuple(one.found), tuple(one.expected))
    # Of each direction, the operations that were captured.
    for captured in (one.forward, one.backward):
        assert len(captured) > 3
        assert not {name.split(".")[1] for name in captured if "." in name} & WAITING


@pytest.mark.parametrize("name", TO_MACHINE_CODE)
def test_compiled_to_machine_code_it_is_the_same(name, compiled):
    one = compiled[f"{name} to machine code"]

    assert not one.error
    assert_same(tuple(one.found), tuple(one.expected))


@pytest.fixture
def _autocast_everywhere(monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # it knows no "meta"


@every_loss
@pytest.mark.usefixtures("_autocast_everywhere")
@pytest.mark.parametrize("rows", [None, 3, 8])
def test_nothing_waits_for_a_number_of_the_device(loss, rows):
    # This device has no numbers, so that whatever asks for one cannot go on.
    module = a_module(loss, rows=rows).to("meta")
    embeddings, labels = (one.detach().to("meta") for one in a_batch(8))
    embeddings.requires_grad_()

    cost, *gradients = with_gradient(module(embeddings, labels), embeddings, *module.parameters())
    assert cost.is_meta
    assert gradients[0].shape == embeddings.shape


@pytest.mark.usefixtures("_autocast_everywhere")
@pytest.mark.parametrize("rows", [None, 3])
@pytest.mark.parametrize("name", OTHERS)
def test_nothing_else_waits_for_a_number_of_the_device(name, rows):
    module = another(name).double().to("meta")
    module.rows = rows
    embeddings, labels = (one.detach().to("meta") for one in a_batch(8))
    embeddings.requires_grad_()

    cost, *gradients = with_gradient(module(embeddings, labels), embeddings, *module.parameters())
    assert cost.is_meta
    assert gradients[0].shape == embeddings.shape


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: bool(x.any()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.masked_select(x > 0),
        lambda x: x.unique(),
        lambda x: x.bincount(),
    ],
)
def test_whatever_waits_would_be_found(wait):
    with pytest.raises((RuntimeError, NotImplementedError)):
        wait(torch.arange(3, device="meta"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_loss
def test_nothing_waits_for_the_device(loss):
    module = a_module(loss, torch.float32).cuda()
    embeddings, labels = (one.detach().cuda() for one in a_batch(64, torch.float32))
    module(embeddings.requires_grad_(), labels).backward()  # what is made once may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        module(embeddings, labels).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
