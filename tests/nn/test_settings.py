"""What losses and references refuse, and in which words."""

import pytest
import torch

from siamlearn.nn import losses
from siamlearn.nn.losses import ContrastiveLoss
from siamlearn.nn.references import Memory, Proxies

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("rule", "made"),
    [
        ("margin must be a number, got 'a'", lambda: losses.TripletLoss("a")),
        ("temperature must be a number, got '0.1'", lambda: losses.InfoNCELoss("0.1")),
        ("margin must be a number, got True", lambda: losses.TripletLoss(True)),
        ("margin must be a number, got None", lambda: losses.ArcFaceLoss(5, 4, margin=None)),
        ("boundary must be a number, got 'b'", lambda: losses.RankedListLoss(boundary="b")),
        ("longest must be a number, got 'l'", lambda: losses.MagFaceLoss(5, 4, longest="l")),
        ("slack must be finite, got nan", lambda: losses.TupletMarginLoss(slack=NAN)),
        ("base must be finite, got nan", lambda: losses.MultiSimilarityLoss(base=NAN)),
        ("base must be finite, got inf", lambda: losses.MultiSimilarityLoss(base=INF)),
        ("bins must be a whole number, got 2.5", lambda: losses.FastAPLoss(bins=2.5)),
        ("bins must be a whole number, got True", lambda: losses.HistogramLoss(bins=True)),
        ("rows must be a whole number, got 2.5", lambda: ContrastiveLoss(rows=2.5)),
        ("classes must be a whole number, got 3.5", lambda: Proxies(3.5, 4)),
        ("classes must be a whole number, got '5'", lambda: losses.CosFaceLoss("5", 4)),
        ("size must be a whole number, got 2.5", lambda: Memory(2.5)),
        ("whole number of at least 2, got nan", lambda: losses.SphereFaceLoss(5, 4, margin=NAN)),
        ("whole number of at least 2, got 2.5", lambda: losses.SphereFaceLoss(5, 4, margin=2.5)),
        ("penalty must be a function.*torch.relu; got 3", lambda: losses.PNPLoss(penalty=3)),
        ("penalty must be a function", lambda: losses.BatchHardLoss(penalty=None)),
        ("pairing must be a function", lambda: ContrastiveLoss(pairing=None)),
        ("squared must be True or False, got 'no'", lambda: ContrastiveLoss(squared="no")),
        ("apart must be True or False, got 1", lambda: ContrastiveLoss(apart=1)),
        ("learned must be True or False", lambda: losses.InfoNCELoss(learned="yes")),
        ("balanced must be True or False", lambda: losses.MarginLoss(balanced=None)),
    ],
)
def test_settings_are_refused_by_name(rule, made):
    with pytest.raises(ValueError, match=rule):
        made()


def test_answers_must_be_a_tensor():
    with pytest.raises(ValueError, match="same must be a tensor, got list"):
        ContrastiveLoss()(torch.eye(2), same=[[True, False], [False, True]])


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
@pytest.mark.parametrize(
    "loss",
    [
        ContrastiveLoss,
        lambda: losses.ArcFaceLoss(3, 4),
        lambda: losses.MarginLoss(classes=3),
        lambda: losses.CentreLoss(3, 4),
        lambda: ContrastiveLoss(references=Memory(9)),
    ],
)
def test_labels_may_be_unsigned_whole_numbers(loss, dtype):
    embeddings, labels = torch.eye(4), torch.tensor([0, 1, 2, 1])

    assert loss()(embeddings, labels.to(dtype)) == loss()(embeddings, labels)
