"""Run folders and what they say about a run."""

import threading

import pytest
import torch

from siamlearn.nn.nets import EmbeddingNet, NetConfig
from siamlearn.train.runs import (
    new_run_folder,
    read_config,
    rebuilt_split,
    split_section,
    write_config,
)


def test_no_run_is_given_the_folder_of_another(tmp_path):
    (tmp_path / "runs1").write_text("a file of that name is not overwritten either")
    assert [new_run_folder(tmp_path / "runs").name for _ in range(3)] == ["runs", "runs2", "runs3"]


def test_two_that_ask_at_once_get_two_folders(tmp_path):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(new_run_folder(tmp_path / "a" / "runs")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 8


def test_the_config_rebuilds_net_split_and_settings(tmp_path, tiny):
    images = tiny.pictures()
    train, rest = images.split_identities(held_out=2)
    gallery, probes = rest.split_gallery(pictures=1)
    net = NetConfig.preset("small", input=(1, 24, 24), embedding=8)
    write_config(
        tmp_path,
        net=net,
        split=split_section(images, train=train, gallery=gallery, probes=probes),
        settings={"epochs": 3, "name": "Zoë"},
    )

    config = read_config(tmp_path)
    parts = rebuilt_split(images, config["split"])

    assert EmbeddingNet(NetConfig.from_dict(config["net"])).config == net
    assert [parts[name].digest for name in ("train", "gallery", "probes")] == [
        part.digest for part in (train, gallery, probes)
    ]
    # Whole people need no list of pictures, a gallery does.
    assert "pictures" not in config["split"]["train"]
    assert config["split"]["gallery"]["pictures"] == list(gallery.names)
    assert config["settings"] == {"epochs": 3, "name": "Zoë"}
    assert set(config["versions"]) == {"python", "siamlearn", "torch", "numpy"}


def test_another_set_of_pictures_is_refused(tiny):
    images = tiny.pictures()
    section = split_section(images, train=images.only(["p0", "p1"]))
    changed = images.subset(range(len(images)))
    changed.pixels = torch.where(changed.pixels == changed.pixels[0, 0, 0, 0], 0, changed.pixels)
    with pytest.raises(ValueError, match=r"part 'train' of the split is not what it was"):
        rebuilt_split(changed, section)
    with pytest.raises(ValueError, match=r"part 'train' .* that are not here: .*p0"):
        rebuilt_split(images.only(["p2"]), section)


def test_a_section_that_json_cannot_hold_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"section 'settings' of the config"):
        write_config(tmp_path, settings={"device": torch.device("cpu")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_a_config_that_is_none_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json"):
        read_config(tmp_path)
