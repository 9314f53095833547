"""What a batch is compared with besides itself: proxies, of all or some classes, and a memory."""

import copy
import time

import pytest
import torch
from pytorch_metric_learning.losses import ContrastiveLoss as PeerContrastiveLoss
from pytorch_metric_learning.losses import CrossBatchMemory

from siamlearn.functional.distances import cosine
from siamlearn.functional.pairings import all_pairs
from siamlearn.nn.losses import ContrastiveLoss, InfoNCELoss, SupConLoss
from siamlearn.nn.references import Memory, Proxies


def a_batch(n=6, classes=3, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(n, 4, generator=generator, dtype=dtype)
    labels = torch.randint(classes, (n,), generator=generator)
    return embeddings.requires_grad_(), labels


# --- Proxies --------------------------------------------------------------------------------------


def test_proxies_start_as_unit_vectors_from_their_own_seed():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    proxies = Proxies(50, 8, seed=3)

    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(proxies.vectors.norm(dim=1), torch.ones(50))
    assert torch.equal(Proxies(50, 8, seed=3).vectors, proxies.vectors)
    assert not torch.equal(Proxies(50, 8, seed=4).vectors, proxies.vectors)
    # They point everywhere.
    assert proxies.vectors.mean(dim=0).norm() < 0.4


def test_proxies_are_what_a_batch_is_compared_with_and_both_learn():
    proxies = Proxies(3, 4)
    embeddings, labels = a_batch()
    ours = InfoNCELoss(0.5, references=proxies)(embeddings, labels)
    logits = (1 - cosine(embeddings, proxies.vectors)) / 0.5
    expected = torch.nn.functional.cross_entropy(logits, labels)

    ends = embeddings, proxies.vectors
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(torch.autograd.grad(ours, ends), torch.autograd.grad(expected, ends))


def test_centres_of_a_class_stand_side_by_side():
    vectors, labels, own = Proxies(3, 4, centres=2)(*a_batch())

    assert vectors.shape == (6, 4)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert own is None


def test_pictures_of_several_classes_are_pulled_to_all_of_them():
    proxies = Proxies(3, 4)
    embeddings, _ = a_batch(2)
    labels = torch.tensor([[True, True, False], [False, False, True]])
    references = proxies(embeddings, labels)

    assert references.labels.tolist() == torch.eye(3).bool().tolist()
    InfoNCELoss(references=proxies)(embeddings, labels).backward()
    assert proxies.vectors.grad.norm() > 0
    with pytest.raises(ValueError, match="one column for each of the 4 classes"):
        Proxies(4, 4)(embeddings, labels)
    with pytest.raises(ValueError, match="proxies without sample"):
        Proxies(3, 4, sample=0.5)(embeddings, labels)


@pytest.mark.parametrize("strange", [-1, 3, 2**40])
def test_labels_without_a_proxy_are_refused(strange):
    embeddings, _ = a_batch(2)
    with pytest.raises(ValueError, match=rf"labels must be from 0 to 2, .* got {strange};"):
        Proxies(3, 4)(embeddings, torch.tensor([0, strange]))


def test_embeddings_of_other_dimensions_are_refused():
    with pytest.raises(ValueError, match="as many dimensions as the proxies, 5, got 4"):
        Proxies(3, 5)(*a_batch())


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"classes": 0}, "classes must be at least 1, got 0"),
        ({"dimensions": 0}, "dimensions must be at least 1"),
        ({"centres": 0}, "centres must be at least 1"),
        ({"sample": 0.0}, "sample must be a share of the classes above 0 and below 1, got 0.0"),
        ({"sample": 1.0}, "leave it out to look at all"),
        ({"sparse": True}, "sparse needs a sample"),
    ],
)
def test_proxies_out_of_range_are_refused(how, says):
    with pytest.raises(ValueError, match=says):
        Proxies(**{"classes": 3, "dimensions": 4, **how})


def test_a_sample_has_the_classes_of_the_batch_and_always_as_many_others():
    proxies = Proxies(100, 4, sample=0.1, centres=2)
    embeddings, _ = a_batch(4)
    seen = torch.zeros(100)
    for step in range(1000):
        labels = torch.tensor([7, 7, 99, step % 100])
        vectors, names, _ = proxies(embeddings, labels)

        assert torch.isin(labels, names).all()
        assert names.shape == (20,)
        assert torch.equal(names[::2], names[1::2])
        assert torch.equal(names[::2].unique(), names[::2])  # none twice, in order
        assert torch.equal(vectors[::2], proxies.vectors[2 * names[::2]])
        seen[names[::2]] += 1
    # 97 others share 7 or 8 places in each of 1,000 steps, and 10 of their own.
    others = torch.cat([seen[:7], seen[8:99]])
    expected = 10 + 990 * 7 / 97
    assert abs(others.mean() - expected) < 1.5
    assert 5 < others.std() < 12  # by chance: the root of 990 * 0.072 * 0.928 is 8.1


def test_a_batch_of_more_pictures_than_the_share_is_looked_at_whole():
    proxies = Proxies(10, 4, sample=0.1)

    assert len(proxies(a_batch(4)[0], torch.tensor([1, 3, 5, 7])).labels) == 4
    assert proxies(a_batch(20)[0], torch.arange(20) % 10).labels.tolist() == [*range(10)]


def test_samples_differ_from_step_to_step_and_seed_to_seed_and_are_taken_up_when_loaded():
    embeddings, labels = a_batch()

    def drawn(proxies):
        return proxies(embeddings, labels).labels.tolist()

    first, other = Proxies(1000, 4, sample=0.1), Proxies(1000, 4, sample=0.1, seed=1)
    some = [drawn(first) for _ in range(3)]
    assert len({tuple(draw) for draw in [*some, drawn(other)]}) == 4

    fresh = Proxies(1000, 4, sample=0.1)
    assert drawn(fresh) == some[0]
    fresh.load_state_dict(first.state_dict())
    assert drawn(fresh) == drawn(first)


def test_evaluation_looks_at_all_classes_and_draws_nothing():
    proxies = Proxies(50, 4, sample=0.1).eval()

    assert proxies(*a_batch()).labels.tolist() == [*range(50)]
    assert proxies.steps == 0


@pytest.mark.parametrize("sparse", [False, True])
def test_a_sample_costs_what_its_classes_alone_would_cost(sparse):
    proxies = Proxies(40, 4, sample=0.25, centres=2, sparse=sparse)
    embeddings, labels = a_batch(classes=40)
    vectors, names, _ = copy.deepcopy(proxies)(embeddings, labels)
    expected = InfoNCELoss(0.5)(embeddings, labels, (vectors, names))
    ours = InfoNCELoss(0.5, references=proxies, rows=2)(embeddings, labels)
    ours.backward()

    torch.testing.assert_close(ours, expected)
    gradient = proxies.vectors.grad
    assert gradient.is_sparse == sparse
    touched = gradient.to_dense().norm(dim=1).nonzero().flatten() // 2
    assert torch.equal(touched.unique(), names.unique())


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # torch's own optimizers
def test_a_million_identities_are_trained_on():
    begun = time.perf_counter()
    proxies = Proxies(1_000_000, 16, sample=0.01, sparse=True)
    before = proxies.vectors.detach().clone()
    optimizer = torch.optim.SparseAdam([proxies.vectors], lr=0.1)
    loss = InfoNCELoss(0.05, references=proxies)
    generator = torch.Generator().manual_seed(0)
    touched = torch.zeros(1_000_000, dtype=torch.bool)
    labels = torch.randint(1_000_000, (64,), generator=generator)
    embeddings = torch.randn(64, 16, generator=generator)
    costs = []
    for _ in range(4):
        optimizer.zero_grad()
        cost = loss(embeddings, labels)
        cost.backward()
        touched[proxies.vectors.grad.coalesce().indices()[0]] = True
        optimizer.step()
        costs.append(cost.item())

    changed = (proxies.vectors != before).any(dim=1)
    assert torch.equal(changed, touched)
    assert 10_000 < changed.sum() <= 40_000
    assert costs[-1] < costs[0] / 2
    assert time.perf_counter() - begun < 5


@pytest.mark.parametrize("how", [{}, {"sample": 0.5, "centres": 2}])
def test_proxies_are_captured_whole(how):
    plain, captured = Proxies(20, 4, **how), Proxies(20, 4, **how)
    captured.compile(fullgraph=True, backend="eager")
    for step in range(3):
        batch = a_batch(classes=20, seed=step)
        torch.testing.assert_close(captured(*batch)[:2], plain(*batch)[:2])


# --- Memory ---------------------------------------------------------------------------------------


def test_a_memory_is_a_ring():
    memory, everything = Memory(5), []
    for step in range(6):
        embeddings, labels = a_batch(2, seed=step)
        everything += [*zip(embeddings.detach(), labels, strict=True)]
        vectors, names, own = memory(embeddings, labels)

        assert torch.equal(vectors[own], embeddings)
        assert torch.equal(names[own], labels)
        # The latest five, each once, wherever they stand.
        latest = everything[-5:]
        assert len(vectors) == len(names) == len(latest)
        for vector, label in latest:
            assert ((vectors == vector).all(dim=1) & (names == label)).sum() == 1
        assert not vectors.requires_grad


def test_a_batch_does_not_meet_itself_in_memory():
    # One picture of each: nothing is alike but what is remembered of the picture itself.
    loss = SupConLoss(references=Memory(12))
    for step in range(5):
        embeddings, _ = a_batch(4, seed=step)
        assert loss(embeddings, torch.arange(4) + 4 * step) == 0
    # A batch that comes again meets its older copies, which are positives.
    assert loss(embeddings, torch.arange(4) + 4 * step) > 0


def test_memory_costs_what_the_same_references_cost_and_moves_the_batch_alone():
    memory, distance = Memory(9), cosine
    loss = SupConLoss(0.3, references=memory, rows=2)
    for step in range(5):
        embeddings, labels = a_batch(4, seed=step, dtype=torch.float64)
        before = copy.deepcopy(memory)
        cost = loss(embeddings, labels)
        expected = all_pairs(
            SupConLoss(0.3).terms,
            embeddings,
            labels,
            distance=distance,
            references=before(embeddings, labels),
        ).mean()

        torch.testing.assert_close(cost, expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(
            torch.autograd.grad(cost, embeddings), torch.autograd.grad(expected, embeddings)
        )


def test_memory_equals_that_of_pytorch_metric_learning_until_that_is_saved():
    ours = ContrastiveLoss(references=Memory(7), distance=cosine)
    peer = CrossBatchMemory(PeerContrastiveLoss(), embedding_size=4, memory_size=7)
    for step in range(5):
        embeddings, labels = a_batch(3, seed=step)
        ours(embeddings, labels)
        peer(embeddings, labels)
        assert peer.queue_idx == ours.references.pointer
    torch.testing.assert_close(peer.embedding_memory, ours.references.vectors)

    # Theirs writes over the newest entries when it is resumed, and thinks that all is empty.
    fresh = CrossBatchMemory(PeerContrastiveLoss(), embedding_size=4, memory_size=7)
    fresh.load_state_dict(peer.state_dict())
    assert (fresh.queue_idx, fresh.has_been_filled) == (0, False)
    assert (peer.queue_idx, peer.has_been_filled) == (1, True)


@pytest.mark.parametrize("steps", range(7))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_memory_that_was_saved_goes_on_to_the_same_bits(steps, dtype):
    memory = Memory(7, warm_up=2)
    for step in range(steps):
        memory(*a_batch(3, seed=step, dtype=dtype))
    for fresh in (Memory(7, warm_up=2), Memory(7, warm_up=2)):
        if steps % 2:  # one that is in use already
            fresh(torch.ones(2, 9), torch.tensor([1, 2]))
        fresh.load_state_dict(copy.deepcopy(memory.state_dict()))
        going_on = copy.deepcopy(memory)
        for step in range(steps, steps + 4):
            batch = a_batch(3, seed=step, dtype=dtype)
            for one, other in zip(fresh(*batch), going_on(*batch), strict=True):
                assert torch.equal(one, other)
                assert one.dtype == other.dtype


def test_a_memory_is_captured_whole():
    plain, captured = Memory(5, dimensions=4), Memory(5, dimensions=4)
    captured.compile(fullgraph=True, backend="eager")
    for step in range(5):
        batch = a_batch(2, seed=step)
        for one, other in zip(captured(*batch), plain(*batch), strict=True):
            assert torch.equal(one, other)


def test_a_memory_of_another_size_or_shape_is_not_loaded():
    saved = Memory(7)
    saved(*a_batch(3))
    with pytest.raises(RuntimeError, match="size mismatch for vectors"):
        Memory(8).load_state_dict(saved.state_dict())
    with pytest.raises(RuntimeError, match="size mismatch for vectors"):
        Memory(7, dimensions=5).load_state_dict(saved.state_dict())
    Memory(7, dimensions=4).load_state_dict(saved.state_dict())


def test_batches_of_the_warm_up_meet_themselves_alone_with_a_gradient_on_both_sides():
    loss = SupConLoss(references=Memory(30, warm_up=2))
    for step in range(4):
        embeddings, labels = a_batch(seed=step)
        ours, alone = loss(embeddings, labels), SupConLoss()(embeddings, labels)
        same = torch.autograd.grad(ours, embeddings)[0] - torch.autograd.grad(alone, embeddings)[0]

        assert (same.norm() == 0) == (step < 2)
        assert loss.references.filled == 6 * max(0, step - 1)


def test_evaluation_remembers_nothing_and_meets_nobody_else():
    memory = Memory(30)
    memory(*a_batch())
    memory.eval()
    embeddings, labels = a_batch(seed=1)
    others = memory(embeddings, labels)

    assert others.embeddings is embeddings
    assert memory.filled == memory.pointer == 6


def test_half_precision_and_small_whole_numbers_are_remembered_wide():
    memory = Memory(4)
    memory(torch.ones(2, 3, dtype=torch.bfloat16), torch.tensor([1, 255], dtype=torch.uint8))
    vectors, names, _ = memory(torch.ones(2, 3), torch.tensor([2**40, 255]))

    assert vectors.dtype == torch.float32
    assert names.tolist() == [1, 255, 2**40, 255]


def test_pictures_of_several_identities_are_remembered_as_such():
    memory = Memory(4)
    labels = torch.tensor([[True, False], [True, True]])
    memory(torch.ones(2, 3), labels)

    assert torch.equal(memory(torch.ones(2, 3), ~labels).labels, torch.cat([labels, ~labels]))


def test_batches_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="hold a whole batch, got 6 pictures for size=5"):
        Memory(5)(*a_batch(6))
    memory = Memory(5)
    memory(*a_batch(3))
    with pytest.raises(ValueError, match=r"cannot take a batch of \(2, 7\)"):
        memory(torch.ones(2, 7), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"cannot take a batch of \(6, 4\)"):
        Memory(9, dimensions=3)(*a_batch(6))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"size": 0}, "size must be at least 1, got 0: pictures"),
        ({"warm_up": -1}, "warm_up must be at least 0 batches, got -1"),
        ({"dimensions": 0}, "dimensions must be at least 1, got 0"),
    ],
)
def test_memories_out_of_range_are_refused(how, says):
    with pytest.raises(ValueError, match=says):
        Memory(**{"size": 5, **how})


def test_repr_names_the_settings():
    assert repr(Proxies(3, 4)) == "Proxies(classes=3, dimensions=4)"
    assert repr(Proxies(9, 4, sample=0.5, centres=2)) == (
        "Proxies(classes=9, dimensions=4, centres=2, sample=0.5)"
    )
    assert repr(Memory(9, warm_up=2)) == "Memory(size=9, warm_up=2)"
