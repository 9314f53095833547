"""What the trainer refuses, and says so before anything is trained."""

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import ReduceLROnPlateau

from siamlearn.nn.losses import ContrastiveLoss
from siamlearn.train.reporting import Progress
from siamlearn.train.trainer import Trainer


def pull(embeddings, labels):
    return embeddings.mean()


def line():
    return nn.Linear(1, 1, bias=False)


def ones(value):
    return torch.full((2, 1), value), torch.tensor([0, 0])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"precision": "half"}, "precision must be one of float32, bfloat16, float16, got 'half'"),
        ({"accumulate": 0}, "accumulate must be at least 1"),
        ({"clip": 0.0}, "clip must be above zero"),
        ({"average": 1.0}, "average must be at least 0 and below 1"),
    ],
)
def test_options_out_of_range_are_refused(options, says):
    net = line()
    with pytest.raises(ValueError, match=says):
        Trainer(net, pull, SGD(net.parameters(), 0.1), **options)


def test_an_optimizer_of_another_net_is_refused():
    with pytest.raises(ValueError, match="none of this net's parameters"):
        Trainer(line(), pull, SGD(line().parameters(), 0.1))


def test_a_learning_rate_for_a_loss_that_learns_nothing_is_refused():
    net, loss = line(), nn.Bilinear(1, 1, 1)
    for learns, optimizer in (
        (pull, SGD(net.parameters(), 0.1)),
        (loss, SGD([*net.parameters(), *loss.parameters()], 0.1)),
    ):
        with pytest.raises(ValueError, match=r"loss_lr=0.5 is for what the loss learns, but that"):
            Trainer(net, learns, optimizer, loss_lr=0.5)
    with pytest.raises(ValueError, match="loss_lr must be above zero, got 0"):
        Trainer(net, loss, SGD(net.parameters(), 0.1), loss_lr=0)


def test_sparse_gradients_are_refused_where_the_optimizer_takes_none():
    net, loss = line(), nn.EmbeddingBag(5, 1, sparse=True)
    with pytest.raises(ValueError, match="AdamW takes no sparse gradients; use SGD"):
        Trainer(net, loss, AdamW(net.parameters()))
    Trainer(net, loss, SGD(net.parameters(), 0.1))


def test_a_schedule_that_needs_a_value_is_refused():
    net = line()
    optimizer = SGD(net.parameters(), 0.1)
    with pytest.raises(ValueError, match="ReduceLROnPlateau"):
        Trainer(net, pull, optimizer, schedule=ReduceLROnPlateau(optimizer))


def test_what_is_no_callback_is_refused():
    net = line()
    with pytest.raises(TypeError, match="callbacks must be Callback objects, got <class"):
        Trainer(net, pull, SGD(net.parameters(), 0.1), callbacks=[Progress])
    with pytest.raises(
        TypeError, match=r"must be a list .*: write callbacks=\[Progress\(\.\.\.\)\]"
    ):
        Trainer(net, pull, SGD(net.parameters(), 0.1), callbacks=Progress())


def test_nothing_to_train_on_is_refused():
    net = line()
    trainer = Trainer(net, pull, SGD(net.parameters(), 0.1), callbacks=())
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        trainer.fit([ones(1.0)], epochs=0)
    with pytest.raises(ValueError, match="epoch 1 has no batches"):
        trainer.fit([], epochs=1)
    with pytest.raises(ValueError, match="epoch 2 has no batches; an iterator can be read only"):
        trainer.fit(iter([ones(1.0)]), epochs=2)
    with pytest.raises(ValueError, match="validation has no batches"):
        trainer.fit([ones(1.0)], epochs=2, validation=[])


def test_a_run_that_is_over_says_so_and_how_to_go_on():
    net = line()
    trainer = Trainer(net, pull, SGD(net.parameters(), 0.1), callbacks=())
    trainer.fit([ones(1.0)], epochs=2)
    for epochs in (1, 2):
        with pytest.warns(UserWarning, match=rf"={epochs} counts .* 2 are done; pass epochs=3 or"):
            assert trainer.fit([ones(1.0)], epochs=epochs).step == 2


def test_a_bad_batch_leaves_no_trace_in_the_net_not_in_its_batch_norms_either():
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 2))
    trainer = Trainer(net, ContrastiveLoss(), SGD(net.parameters(), lr=0.1), callbacks=())
    good = torch.rand(4, 1, 2, 2), torch.tensor([0, 0, 1, 1])
    trainer.fit([good], epochs=1)
    before = {name: value.clone() for name, value in net.state_dict().items()}

    with pytest.raises(FloatingPointError):
        trainer.fit([(torch.full((4, 1, 2, 2), torch.nan), good[1])], epochs=2)

    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
