"""Which losses need to know what belongs together in a batch that ranks share, and which do not."""

import pytest
import torch
from torch import nn
from torch.optim import SGD

from siamlearn.functional.pairings import adjacent_pairs, two_towers
from siamlearn.nn.losses import (
    ContrastiveLoss,
    HistogramLoss,
    InfoNCELoss,
    IntraPairVarianceLoss,
    LiftedStructureLoss,
    ProxyAnchorLoss,
)
from siamlearn.nn.references import Proxies
from siamlearn.train.trainer import Trainer
from train.on_ranks import on_ranks

FREE = {
    "contrastive": ContrastiveLoss,
    "histogram": HistogramLoss,
    "variance": IntraPairVarianceLoss,
    "lifted": LiftedStructureLoss,
    "proxy anchor": lambda: ProxyAnchorLoss(references=Proxies(4, 5)),
    "sum": lambda: ContrastiveLoss() + 0.5 * HistogramLoss(),
}
BOUND = {
    "adjacent": lambda: ContrastiveLoss(pairing=adjacent_pairs),
    "towers": lambda: InfoNCELoss(pairing=two_towers),
    "histogram of adjacent": lambda: HistogramLoss(pairing=adjacent_pairs),
    "sum": lambda: ContrastiveLoss() + InfoNCELoss(pairing=two_towers),
}


def trained(loss):
    torch.manual_seed(0)
    net = nn.Linear(3, 5).double()
    draw = torch.Generator().manual_seed(1)
    batches = [(torch.randn(9, 3, generator=draw).double(), torch.arange(9) % 4) for _ in range(3)]
    Trainer(net, loss.double(), SGD(net.parameters(), lr=0.1), callbacks=()).fit(batches, epochs=1)
    return net.state_dict()


@pytest.mark.parametrize("kind", FREE)
def test_a_loss_of_all_pairs_takes_batches_in_any_order(tmp_path, kind):
    alone = trained(FREE[kind]())

    for said in on_ranks(2, tmp_path, lambda rank: trained(FREE[kind]())):
        assert not isinstance(said, str), said
        torch.testing.assert_close(said, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", BOUND)
def test_a_loss_of_pairs_side_by_side_does_not(tmp_path, kind):
    for said in on_ranks(2, tmp_path, lambda rank: trained(BOUND[kind]())):
        assert said.startswith("ValueError: on several ranks, a loss of pairs side by side needs")
