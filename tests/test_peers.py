"""Where pytorch-metric-learning 2.9 is wrong: its value beside the right one.

The list is told in ``docs/explanation/peers.md``. A test here that fails because the peer has been
mended is good news: take it from both.
"""

import math
from itertools import product

import pytest
import torch
from pytorch_metric_learning import distances as peer_distances
from pytorch_metric_learning import losses as peer
from pytorch_metric_learning import miners as peer_miners
from pytorch_metric_learning import reducers as peer_reducers
from pytorch_metric_learning.utils import loss_and_miner_utils as peer_tools
from torch import Tensor

from siamlearn.functional.distances import cosine, euclidean
from siamlearn.functional.mining import multi_similarity_mining
from siamlearn.functional.pairs import between
from siamlearn.nn import losses as ours
from siamlearn.nn.references import Memory, Proxies

PLAIN = peer_distances.LpDistance(normalize_embeddings=False)


def a_batch(n: int = 12, identities: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    return torch.randn(n, 4, generator=generator), torch.arange(n) // (n // identities)


def with_gradient(loss, embeddings: Tensor, *given: Tensor) -> tuple[float, Tensor]:
    embeddings = embeddings.clone().requires_grad_()
    cost = loss(embeddings, *given)
    return cost.item(), torch.autograd.grad(cost, embeddings)[0]


# --- Signal that is lost --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "temperature", "true", "most"),
    [
        (torch.float32, 0.01, 100, 87.4),
        (torch.bfloat16, 0.01, 100, 88),
        (torch.float16, 0.05, 20, 9.8),
    ],
)
def test_nt_xent_is_cut_off_at_the_smallest_float(dtype, temperature, true, most):
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1e-2], [1e-2, 1.0]], dtype=dtype)
    labels = torch.tensor([0, 0, 1, 2])
    theirs, lost = with_gradient(peer.NTXentLoss(temperature), embeddings, labels)
    right, gradient = with_gradient(ours.InfoNCELoss(temperature), embeddings, labels)

    assert theirs < most
    assert lost.norm() < 1e-3
    assert right == pytest.approx(true, rel=1e-2)
    assert gradient.norm() > 10


def test_sup_con_is_0_without_negatives():
    embeddings, labels = a_batch()[0], torch.zeros(12, dtype=torch.int64)
    # Equation 2 needs no negatives: it is then at least the logarithm of how many positives.
    assert peer.SupConLoss()(embeddings, labels) == 0
    assert ours.SupConLoss(0.1)(embeddings, labels) > math.log(11)


@pytest.mark.parametrize(
    ("theirs", "right"),
    [
        (peer.SupConLoss(), math.log(1 + math.exp(1 / 0.1))),
        (peer.NTXentLoss(), math.log(1 + math.exp(1 / 0.07))),
        (peer.ContrastiveLoss(neg_margin=1), math.sqrt(2) + 1),
    ],
)
def test_one_positive_and_one_negative_cost_nothing(theirs, right):
    # The positive is at a right angle, the negative in one place with the anchor.
    anchor, others = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    labels, names = torch.tensor([0]), torch.tensor([0, 1])
    unlikely = {peer.SupConLoss: ours.SupConLoss(0.1), peer.NTXentLoss: ours.InfoNCELoss(0.07)}

    assert theirs(anchor, labels, ref_emb=others, ref_labels=names) == 0
    if type(theirs) in unlikely:
        ours_ = unlikely[type(theirs)](anchor, labels, (others, names))
        assert ours_.item() == pytest.approx(right, rel=1e-5)
    # With one more negative, at the other side, which adds next to nothing, it is not 0 any more.
    more = torch.cat([others, torch.tensor([[-1.0, 0.0]])])
    named = torch.tensor([0, 1, 1])
    assert theirs(anchor, labels, ref_emb=more, ref_labels=named) == pytest.approx(right, rel=1e-3)


def test_ranked_list_does_not_see_two_identities_in_one_place():
    loss = peer.RankedListLoss(margin=0.4, Tn=1, distance=PLAIN)
    labels = torch.tensor([0, 1, 2])
    far = [5.0, 5.0]
    same, none = with_gradient(loss, torch.tensor([[0.0, 0.0], [0.0, 0.0], far]), labels)
    near, _ = with_gradient(loss, torch.tensor([[0.0, 0.0], [1e-3, 0.0], far]), labels)

    # The worst negatives there are cost nothing; a thousandth apart they cost what they should.
    assert (same, none.norm()) == (0, 0)
    right = ours.RankedListLoss(margin=0.4, scale=1)
    assert right(torch.tensor([[0.0, 0.0], [0.0, 0.0], far]), labels) > 0
    assert near == pytest.approx(2 / 3 * 0.5 * 1.2, rel=1e-2)


# --- NaN ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "right"),
    [
        (peer.TripletMarginLoss(), ours.TripletLoss()),
        (peer.ContrastiveLoss(), ours.ContrastiveLoss()),
    ],
)
def test_a_nan_embedding_is_hidden_in_the_value_and_spoils_every_gradient(theirs, right):
    embeddings, labels = a_batch()
    embeddings[0, 0] = torch.nan
    cost, gradient = with_gradient(theirs, embeddings, labels)

    assert math.isfinite(cost)
    assert gradient.isnan().all()
    assert right(embeddings, labels).isnan()


def test_the_multi_similarity_miner_drops_a_nan_before_the_loss_can_see_it():
    embeddings, labels = a_batch()
    embeddings[0, 0] = torch.nan
    theirs = peer_miners.MultiSimilarityMiner()(embeddings, labels)
    own = torch.arange(12)
    right = multi_similarity_mining(
        between(embeddings, labels, embeddings, labels, distance=cosine, own=own)
    )

    assert all((pictures != 0).all() for pictures in theirs)
    assert right.positive[0].any()
    assert right.negative[0].any()


def test_tuplet_margin_is_nan_where_rounding_makes_a_cosine_more_than_one():
    embeddings = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)).repeat(2, 1)
    labels = torch.arange(64).repeat(2)
    unit = torch.nn.functional.normalize(embeddings)

    assert (unit @ unit.T).max() > 1
    assert peer.TupletMarginLoss()(embeddings, labels).isnan()
    cost, gradient = with_gradient(ours.TupletMarginLoss(), embeddings, labels)
    assert math.isfinite(cost)
    assert gradient.isfinite().all()


def test_tuplet_margin_has_a_nan_gradient_where_positives_are_in_one_place():
    embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    labels = torch.tensor([0, 0, 1])
    cost, gradient = with_gradient(peer.TupletMarginLoss(), embeddings, labels)

    assert math.isfinite(cost)
    assert gradient.isnan().any()
    assert with_gradient(ours.TupletMarginLoss(), embeddings, labels)[1].isfinite().all()


@pytest.mark.parametrize("name", ["ArcFaceLoss", "CosFaceLoss", "NormalizedSoftmaxLoss"])
def test_an_empty_batch_is_nan(name):
    loss = getattr(peer, name)(3, 4)

    assert loss(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)).isnan()
    right = ours.InfoNCELoss(references=Proxies(3, 4))
    assert right(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)) == 0


def test_signal_to_noise_of_constant_vectors_is_hidden():
    # Their variance is 0, so that every distance is 0 / 0; the mean leaves those out.
    embeddings, labels = torch.ones(6, 4), torch.tensor([0, 0, 1, 1, 2, 2])

    assert peer_distances.SNRDistance()(embeddings).isnan().all()
    assert peer.SignalToNoiseRatioContrastiveLoss()(embeddings, labels) == 0


# --- Values that are wrong ------------------------------------------------------------------------


def test_smooth_ap_is_another_number_where_the_batch_is_in_another_order():
    embeddings, labels = a_batch()
    order = torch.tensor([0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11])
    theirs, right = peer.SmoothAPLoss(), ours.SmoothAPLoss()

    def both_orders(loss) -> tuple[float, float]:
        return loss(embeddings, labels).item(), loss(embeddings[order], labels[order]).item()

    sorted_, shuffled = both_orders(theirs)
    assert abs(sorted_ - shuffled) > 0.04
    assert both_orders(right)[1] == pytest.approx(both_orders(right)[0], rel=1e-5)


def test_smooth_ap_refuses_what_is_no_error():
    embeddings = a_batch(4, 2)[0]
    with pytest.raises(ValueError, match="same number of elements"):
        peer.SmoothAPLoss()(embeddings, torch.tensor([0, 0, 0, 1]))
    with pytest.raises(RuntimeError, match="non-negative"):
        peer.SmoothAPLoss()(embeddings, torch.tensor([-1, -1, 1, 1]))
    for labels in ([0, 0, 0, 1], [-1, -1, 1, 1], [10**12, 10**12, 1, 1]):
        assert ours.SmoothAPLoss()(embeddings, torch.tensor(labels)).isfinite()


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")
def test_histograms_have_no_bin_for_a_cosine_of_one():
    embeddings, labels = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1])
    with pytest.raises(RuntimeError, match="index 101 is out of bounds"):
        peer.HistogramLoss()(embeddings, labels)

    assert ours.HistogramLoss()(embeddings, labels) == pytest.approx(0, abs=1e-6)


def test_the_angular_loss_grows_with_the_length_of_what_it_says_is_normalised():
    embeddings, labels = a_batch()
    unit = torch.nn.functional.normalize(embeddings)
    right = peer.AngularLoss()(unit, labels)

    # Anchors and positives are divided by their lengths, negatives are not.
    assert peer.AngularLoss()(3 * unit, labels) > 2 * right


def test_generalised_lifted_charges_anchors_that_have_no_positive():
    embeddings, labels = a_batch(6, 3)
    labels[5] = 7
    loss = peer.GeneralizedLiftedStructureLoss(reducer=peer_reducers.DoNothingReducer())
    each = loss(embeddings, labels)["loss"]["losses"].flatten()

    # The logarithm of an empty sum is taken as 0, which is that of one positive at distance 0.
    assert each[5] > 0
    # It is charged as if it had a positive, and that in one place with it.
    beside = torch.cat([embeddings, embeddings[5:]])
    named = torch.cat([labels, labels[5:]])
    assert loss(beside, named)["loss"]["losses"].flatten()[5] == pytest.approx(each[5].item())
    alone = torch.arange(6)
    assert peer.GeneralizedLiftedStructureLoss()(embeddings, alone) > 0
    assert ours.GeneralisedLiftedLoss()(embeddings, alone) == 0


def test_swapped_triplets_beside_references_look_up_the_wrong_distances():
    embeddings, labels = a_batch(6, 3)
    references, names = 2 * a_batch(8, 4)[0], torch.tensor([2, 0, 1, 0, 1, 2])
    loss = peer.TripletMarginLoss(1.0, swap=True, distance=PLAIN)
    d, among = torch.cdist(embeddings, references), torch.cdist(references, references)
    costs = torch.stack([
        (d[a, p] - torch.minimum(d[a, n], among[p, n]) + 1).clamp(min=0)
        for a, p, n in product(range(6), repeat=3)
        if labels[a] == names[p] != names[n]
    ])  # fmt: skip
    theirs = loss(embeddings, labels, ref_emb=references[:6], ref_labels=names)

    assert abs(theirs - costs[costs > 0].mean()) > 0.1
    with pytest.raises(IndexError, match="out of bounds"):
        loss(embeddings, labels, ref_emb=references, ref_labels=torch.arange(8) % 4)


def test_the_threshold_consistent_margin_does_not_look_at_references():
    embeddings, labels = a_batch(6, 3)
    references, names = a_batch(8, 4)[0][:6], torch.tensor([2, 0, 1, 0, 1, 2])
    theirs = peer.ThresholdConsistentMarginLoss()
    value = theirs(embeddings, labels, ref_emb=references, ref_labels=names)
    right = ours.ThresholdConsistentLoss()

    assert theirs(embeddings, labels, ref_emb=-references, ref_labels=names) == value
    assert right(embeddings, labels, (references, names)) != right(
        embeddings, labels, (-references, names)
    )


def test_lifted_structure_beside_references_depends_on_their_order():
    embeddings, labels = a_batch(6, 3)
    references, names = a_batch(8, 4)
    order = torch.arange(7, -1, -1)
    loss = peer.LiftedStructureLoss()

    # The column of a positive is taken for the row of an anchor.
    one = loss(embeddings, labels, ref_emb=references, ref_labels=names)
    other = loss(embeddings, labels, ref_emb=references[order], ref_labels=names[order])
    assert abs(one - other) > 1e-3


def test_the_instance_loss_takes_the_number_of_a_class_for_that_of_a_picture():
    # Two identities, each in one place, at right angles: nothing is left to wish for.
    embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])

    # Both pictures of class 1 are pulled to picture 1, which shows class 0.
    assert peer.InstanceLoss()(embeddings, torch.tensor([0, 0, 1, 1])) > 30


def test_n_pairs_divides_by_lengths_and_depends_on_the_order_of_the_batch():
    embeddings, labels = a_batch()
    order = torch.arange(11, -1, -1)
    theirs, right = peer.NPairsLoss(), ours.NPairsLoss()

    assert abs(theirs(embeddings, labels) - theirs(embeddings[order], labels[order])) > 1e-3
    assert theirs(embeddings, labels) == pytest.approx(theirs(3 * embeddings, labels).item())
    # Sohn compares inner products of what the net gives; all pairs are used, in any order.
    assert right(embeddings, labels) == pytest.approx(
        right(embeddings[order], labels[order]).item()
    )
    assert abs(right(embeddings, labels) - right(3 * embeddings, labels)) > 0.1


def test_pictures_in_one_place_are_not_at_distance_0():
    embeddings = torch.randn(1, 16, generator=torch.Generator().manual_seed(0)).repeat(32, 1) * 10

    # More than 25 rows, and cdist goes by squares, whose rounding the root makes large.
    assert PLAIN(embeddings).max() > 1e-3
    assert euclidean(embeddings, embeddings).max() == 0


def test_outliers_come_with_centres_also_where_none_were_asked_for():
    loss = peer.SubCenterArcFaceLoss(num_classes=4, embedding_size=4)
    found = loss.get_outliers(*a_batch(), return_dominant_centers=False)

    assert isinstance(found, tuple)


# --- Suspected, and not so ------------------------------------------------------------------------


def test_arc_face_is_finite_at_a_cosine_of_one_and_beyond():
    embeddings = torch.randn(200, 64, generator=torch.Generator().manual_seed(1))
    loss = peer.ArcFaceLoss(200, 64, scale=8)
    loss.W.data = embeddings.T.clone()
    cost, gradient = with_gradient(loss, embeddings, torch.arange(200))

    assert loss.get_cosine(embeddings).max() > 1
    assert math.isfinite(cost)
    assert gradient.isfinite().all()


def test_labels_beyond_the_whole_numbers_of_float32_are_told_apart():
    embeddings, labels = a_batch()
    theirs = peer.TripletMarginLoss()

    assert theirs(embeddings, labels + 2**60) == theirs(embeddings, labels)


# --- Types ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["TripletMarginLoss", "ContrastiveLoss", "MarginLoss", "FastAPLoss"]
)
def test_euclidean_losses_refuse_bfloat16(name):
    embeddings, labels = a_batch()
    with pytest.raises(NotImplementedError, match="BFloat16"):
        getattr(peer, name)()(embeddings.bfloat16(), labels)

    assert ours.TripletLoss()(embeddings.bfloat16(), labels).dtype == torch.float32


def test_learned_classes_lose_their_precision_for_good_to_one_half_precision_batch():
    embeddings, labels = a_batch()
    theirs, right = peer.ArcFaceLoss(4, 4), Proxies(4, 4)
    theirs(embeddings.half(), labels)
    ours.InfoNCELoss(references=right)(embeddings.half(), labels)

    assert theirs.W.dtype == torch.float16
    assert {p.dtype for p in right.parameters()} == {torch.float32}


def test_classes_of_small_whole_numbers_are_refused():
    embeddings, labels = a_batch()
    with pytest.raises(IndexError):
        peer.ArcFaceLoss(4, 4)(embeddings, labels.to(torch.uint8))
    with pytest.raises(RuntimeError):
        peer.ArcFaceLoss(4, 4)(embeddings, labels.to(torch.int32))
    for dtype in (torch.uint8, torch.int32):
        right = ours.InfoNCELoss(references=Proxies(4, 4))
        assert right(embeddings, labels.to(dtype)).isfinite()


def test_positions_in_a_large_batch_do_not_fit_the_type_of_its_labels():
    # This is the way that is taken from 1,291 pictures on, where triplets are 2**31 or more.
    labels = (torch.arange(200) // 2).to(torch.int8)
    matches, differences = peer_tools.get_matches_and_diffs(labels)
    with pytest.raises(RuntimeError, match="int8_t without overflow"):
        peer_tools.get_all_triplets_indices_loop_method(labels, matches, differences)


def test_half_precision_overflows_and_the_loss_is_0():
    embeddings = 1000 * torch.randn(6, 128, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    loss = peer.SignalToNoiseRatioContrastiveLoss(
        distance=peer_distances.SNRDistance(normalize_embeddings=False)
    )

    # Variances are infinite, distances NaN, and the mean leaves those out.
    assert loss(embeddings, labels) > 1
    assert loss(embeddings.half(), labels) == 0


# --- State ----------------------------------------------------------------------------------------


def test_a_memory_that_is_saved_forgets_how_much_of_it_is_filled_and_where_to_go_on():
    embeddings, labels = a_batch(3, 3)
    theirs, again = (
        peer.CrossBatchMemory(peer.ContrastiveLoss(), 4, memory_size=8) for _ in range(2)
    )
    theirs(embeddings, labels)
    again.load_state_dict(theirs.state_dict())
    right, resumed = Memory(8, dimensions=4), Memory(8, dimensions=4)
    right(embeddings, labels)
    resumed.load_state_dict(right.state_dict())

    assert (theirs.queue_idx, again.queue_idx) == (3, 0)
    assert len(right(embeddings, labels).labels) == len(resumed(embeddings, labels).labels) == 6
