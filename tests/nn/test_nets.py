import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from siamlearn.nn.nets import ConvBlock, EmbeddingNet, NetConfig

TINY = NetConfig(input=(1, 12, 10), blocks=(ConvBlock(4, padding=1, pool=2),), embedding=6)


def pictures(n=4, shape=(1, 12, 10), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, *shape), dtype=torch.uint8, generator=generator)


def test_the_notebooks_net_has_1516_parameters_and_embeds_in_8_dimensions():
    net = EmbeddingNet(NetConfig.preset("notebook"))

    assert net.parameter_count == 1516
    assert net(pictures(2, (1, 100, 100))).shape == (2, 8)


def test_the_notebooks_blocks_stand_in_its_order():
    layers = [type(layer) for layer in EmbeddingNet(NetConfig.preset("notebook")).blocks[0]]

    assert layers == [nn.Conv2d, nn.LeakyReLU, nn.MaxPool2d, nn.BatchNorm2d]


def test_a_block_that_shrinks_the_picture_to_nothing_is_named():
    with pytest.raises(ValueError, match=r"block 4 of 4 .* input of 4x3 pixels to 1x0"):
        NetConfig.preset("notebook", input=(1, 112, 92))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": 0}, "channels of a ConvBlock must be at least 1, got 0"),
        ({"channels": 1, "pool": 0}, "pool of a ConvBlock must be at least 1, got 0"),
        ({"channels": 1, "padding": -1}, "padding of a ConvBlock must not be negative, got -1"),
        ({"channels": 1, "dropout": 1.0}, "dropout must be from 0 to below 1, got 1.0"),
    ],
)
def test_a_block_out_of_range_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ConvBlock(**change)


def test_an_unknown_preset_names_those_that_there_are():
    with pytest.raises(ValueError, match="no preset 'big'; the presets are notebook, small"):
        NetConfig.preset("big")


@given(
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    embedding=st.sampled_from([2, 6]),
    unit_length=st.booleans(),
)
def test_the_small_preset_takes_any_picture(channels, height, width, embedding, unit_length):
    shape = (channels, height, width)
    config = NetConfig.preset("small", input=shape, embedding=embedding, unit_length=unit_length)
    out = EmbeddingNet(config).eval()(pictures(2, shape))

    assert out.shape == (2, embedding)
    assert out.isfinite().all()
    if unit_length:
        torch.testing.assert_close(out.norm(dim=1), torch.ones(2))


@given(
    block=st.builds(
        ConvBlock,
        channels=st.integers(1, 3),
        kernel=st.integers(1, 5),
        stride=st.integers(1, 3),
        padding=st.integers(0, 2),
        pool=st.integers(1, 3),
        norm=st.booleans(),
        norm_first=st.booleans(),
    ),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
)
def test_a_block_gives_the_shape_that_it_promises(block, height, width):
    promised = block.output((2, height, width))
    if min(promised) < 1:
        with pytest.raises(ValueError, match="block 1 of 1"):
            NetConfig(input=(2, height, width), blocks=(block,))
    else:
        given = block.build(2).eval()(torch.zeros(1, 2, height, width))
        assert given.shape[1:] == promised


def test_bytes_and_floats_of_a_picture_give_the_same_embedding():
    net = EmbeddingNet(TINY).eval()
    images = pictures()

    torch.testing.assert_close(net(images), net(images.float() / 255))


def test_a_picture_of_another_size_is_resized():
    net = EmbeddingNet(TINY).eval()
    # A ramp of grey, and the same one drawn three times as large.
    large = (torch.arange(36.0)[:, None] + torch.arange(30.0)).expand(2, 1, 36, 30) / 66
    small = torch.nn.functional.avg_pool2d(large, 3)

    torch.testing.assert_close(net(large), net(small), rtol=0, atol=0.01)


def test_whitened_pixels_join_when_they_are_computed_and_only_outside_training():
    config = NetConfig(**{**vars(TINY), "whitened": (6, 5), "mirror": True})
    net, images = EmbeddingNet(config).eval(), pictures(8)
    before = net(images)
    net.whiten(images, torch.arange(8) // 2)
    after = net(images)

    assert before.shape == after.shape == (8, 66)
    assert not before[:, 6:].any()
    assert torch.equal(after[:, :6], before[:, :6])
    assert after[:, 6:].any(dim=1).all()
    assert not net.train()(images)[:, 6:].any()


def test_whoever_asks_for_a_length_gets_it():
    config = NetConfig.preset("small", embedding=32)

    assert EmbeddingNet(config).eval()(pictures(2, config.input)).shape == (2, 32)


def test_pictures_with_other_channels_are_refused():
    with pytest.raises(
        ValueError, match=r"pictures of shape \(n, 1, 12, 10\), got \(4, 3, 12, 10\)"
    ):
        EmbeddingNet(TINY)(pictures(4, (3, 12, 10)))


def test_a_standardized_net_sees_neither_brightness_nor_contrast():
    config = NetConfig(**{**vars(TINY), "standardize": True})
    net = EmbeddingNet(config).eval()
    images = pictures().float() / 255

    torch.testing.assert_close(net(0.3 * images + 0.5), net(images), rtol=1e-4, atol=1e-5)


def test_a_mirroring_net_embeds_a_picture_and_its_mirror_image_alike():
    config = NetConfig(**{**vars(TINY), "mirror": True})
    net = EmbeddingNet(config).eval()

    torch.testing.assert_close(net(pictures()), net(pictures().flip(3)))


def test_a_thumbnail_needs_an_embedding_that_can_be_halved():
    with pytest.raises(ValueError, match="must be an even number, got 7"):
        NetConfig(**{**vars(TINY), "thumbnail": (4, 4), "embedding": 7})


def test_both_halves_of_an_embedding_with_a_thumbnail_weigh_the_same():
    config = NetConfig(**{**vars(TINY), "thumbnail": (4, 4)})
    halves = EmbeddingNet(config).eval()(pictures()).chunk(2, dim=1)

    for half in halves:
        torch.testing.assert_close(half.square().sum(dim=1), torch.full((4,), 0.5))


def test_a_net_comes_back_from_its_folder_to_the_last_bit(tmp_path):
    config = NetConfig(**{**vars(TINY), "thumbnail": (4, 4), "mirror": True})
    net = EmbeddingNet(config)
    net(pictures())  # the batch norms have seen something

    back = EmbeddingNet.load(net.save(tmp_path / "net"))

    assert back.config == config
    assert not back.training
    assert torch.equal(back(pictures()), net.eval()(pictures()))


def test_a_net_remembers_whom_it_was_trained_on_and_older_ones_are_read(tmp_path):
    net = EmbeddingNet(TINY)
    assert net.trained_on == ()
    net.trained_on = ("55579b55", "81b637d8")

    assert EmbeddingNet.load(net.save(tmp_path)).trained_on == ("55579b55", "81b637d8")

    (tmp_path / "net.json").write_text(json.dumps(TINY.to_dict()))  # as it was written before
    assert EmbeddingNet.load(tmp_path).trained_on == ()


@pytest.mark.parametrize("name", ["net.json", "net.safetensors"])
def test_a_damaged_folder_is_refused(tmp_path, name):
    EmbeddingNet(TINY).save(tmp_path)
    whole = (tmp_path / name).read_bytes()
    for damaged in (b"", whole[: len(whole) // 2]):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ValueError, match="holds no whole net"):
            EmbeddingNet.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match="holds no whole net"):
        EmbeddingNet.load(tmp_path)


def test_weights_of_another_net_are_refused(tmp_path):
    EmbeddingNet(TINY).save(tmp_path)
    config = {**TINY.to_dict(), "embedding": 8}
    (tmp_path / "net.json").write_text(json.dumps(config))

    with pytest.raises(ValueError, match="size mismatch"):
        EmbeddingNet.load(tmp_path)
