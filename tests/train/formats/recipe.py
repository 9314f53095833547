"""How the kept checkpoints were made: a small run in double precision, saved in its middle.

When the format of checkpoints changes, run this file once and add the new folder that it makes;
the folders of earlier formats stay as they are.
"""

import json
import shutil
from pathlib import Path

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR, SequentialLR

from siamlearn.nn.losses import ProxyAnchorLoss
from siamlearn.nn.references import Proxies
from siamlearn.train import checkpoint
from siamlearn.train.callbacks import EarlyStopping
from siamlearn.train.keeping import Checkpoint
from siamlearn.train.trainer import Trainer

EPOCHS, SAVED = 3, 4  # of three steps each, saved after the first step of the second epoch


def numbers(*shape: int, start: int = 0) -> torch.Tensor:
    """Made of fractions and not drawn, so that they are the same on every machine."""
    count = torch.Size(shape).numel()
    values = (torch.arange(start, start + count, dtype=torch.float64) * 37 + 11) % 101
    return (values / 101 - 0.5).view(shape)


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    return [(numbers(6, 8, start=1000 * k), labels) for k in range(3)]


def sgd(parameters):
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True)
    return optimizer, MultiStepLR(optimizer, [3, 7], gamma=0.5), {"clip": 1.0}


def adamw(parameters):
    first, *others = parameters
    optimizer = torch.optim.AdamW([{"params": [first], "lr": 0.02}, {"params": others}], lr=0.01)
    parts = [CosineAnnealingLR(optimizer, 4), CosineAnnealingLR(optimizer, 9)]
    return optimizer, SequentialLR(optimizer, parts, milestones=[4]), {"average": 0.8}


KINDS = {"sgd": sgd, "adamw": adamw}


def trained(kind: str, folder: Path, resume: Path | None = None) -> Trainer:
    """The whole run, or the rest of one."""
    # A bias before the norm would have a gradient of rounding alone, of which AdamW makes steps.
    first = nn.Linear(8, 5, bias=False)
    net = nn.Sequential(first, nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)).double()
    loss = ProxyAnchorLoss(references=Proxies(classes=3, dimensions=3)).double()
    with torch.no_grad():
        for place, parameter in enumerate([*net.parameters(), *loss.parameters()]):
            parameter.copy_(numbers(*parameter.shape, start=100 * place))
    optimizer, schedule, options = KINDS[kind](list(net.parameters()))
    callbacks = [EarlyStopping("val_loss", patience=9), Checkpoint(folder, steps=1, keep=None)]
    trainer = Trainer(
        net, loss, optimizer, schedule=schedule, callbacks=callbacks, device="cpu", **options
    )
    return trainer.fit(batches(), epochs=EPOCHS, validation=batches()[:1], resume=resume)


def end(trainer: Trainer) -> dict[str, object]:
    """What is compared: all weights, what the loss has learned, and the log."""
    parts = {"net": trainer.net, "loss": trainer.criterion}
    tensors = {
        f"{part}.{name}": value.tolist()
        for part, module in parts.items()
        for name, value in module.state_dict().items()
    }
    return {"tensors": tensors, "log": trainer.log}


if __name__ == "__main__":
    for kind in KINDS:
        kept = Path(__file__).parent / str(checkpoint.FORMAT) / kind
        whole = trained(kind, kept / "all")
        checkpoint.place_of(kept / "all", SAVED).rename(checkpoint.place_of(kept, SAVED))
        shutil.rmtree(kept / "all")
        (kept / "end.json").write_text(json.dumps(end(whole), indent=1) + "\n")
