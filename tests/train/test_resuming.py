"""Proof 1: a run that is resumed at any step ends with the same bits."""

import pytest
import torch

from siamlearn.train.callbacks import EarlyStopping
from siamlearn.train.checkpoint import checkpoints
from siamlearn.train.keeping import Checkpoint

EPOCHS = 2


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("optimizing", ["sgd", "adamw"])
def test_resuming_from_every_step_gives_the_same_bits(tiny, tmp_path, optimizing, accumulate):
    def made(seed, folder, steps=1000):
        stopping = EarlyStopping("val_loss", patience=9)
        keeping = Checkpoint(folder, steps=steps, keep=None, best="val_loss")
        return tiny.trainer(
            getattr(tiny, optimizing),
            [tiny.Pollute(seed), keeping, stopping],
            first=seed,
            accumulate=accumulate,
            clip=1.0,
            average=0.8 if optimizing == "adamw" else None,
        )

    def fit(trainer, **options):
        validation = [(torch.linspace(0, 1, 288).view(8, 1, 6, 6), torch.arange(8) % 4)]
        return trainer.fit(tiny.batches(), epochs=EPOCHS, validation=validation, **options)

    whole = fit(made(0, tmp_path / "whole", steps=1))
    places = checkpoints(tmp_path / "whole")
    assert len(places) == whole.step == {1: 14, 3: 6}[accumulate]
    for place in places[1:]:
        resumed = fit(made(whole.step, tmp_path / f"from {place.name}"), resume=place)
        assert tiny.digest(resumed) == tiny.digest(whole), place.name


def test_workers_and_resuming_with_them_change_nothing(tiny, tmp_path):
    def made(seed, folder, steps=1000):
        keeping = Checkpoint(folder, steps=steps, keep=None)
        return tiny.trainer(tiny.sgd, [tiny.Pollute(seed), keeping], first=seed, accumulate=3)

    whole = made(0, tmp_path / "whole", steps=1).fit(tiny.batches(workers=0), epochs=EPOCHS)
    spread = made(0, tmp_path / "spread").fit(tiny.batches(workers=2), epochs=EPOCHS)
    assert tiny.digest(spread) == tiny.digest(whole)
    for place in checkpoints(tmp_path / "whole")[1:]:
        resumed = made(1, tmp_path / f"from {place.name}")
        resumed.fit(tiny.batches(workers=2), epochs=EPOCHS, resume=place)
        assert tiny.digest(resumed) == tiny.digest(whole), place.name
