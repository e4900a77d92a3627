"""A damaged clip is one clear error, or is skipped the same way every time, and counted."""

import json
import os
import zlib

import numpy as np
import pytest
from loading import damage, flaky, frames_of

from shardify.format.index import sha256
from shardify.format.members import frames
from shardify.format.records import npy_bytes
from trainer import ClipLoader
from trainer.data.cache import ClipCache
from trainer.data.order import epoch_order
from trainer.errors import FormatError
from trainer.shards.shard_set import open_shards


def test_damage_stops_with_shard_key_and_remedy(own_shards):
    number = int(open_shards(own_shards).numbers("train")[5])
    key = damage(own_shards, number)
    with pytest.raises(FormatError, match=rf"train-00000\d\.tar: clip {key}: payload differs.*copy the folder again"):
        list(ClipLoader(own_shards))


def test_damage_is_skipped_deterministically_and_counted(own_shards):
    shards = open_shards(own_shards)
    train = shards.numbers("train")
    key = damage(own_shards, int(train[5]))
    loaders = [ClipLoader(own_shards, batch_size=8, on_error="skip", max_errors=0.1, workers=n) for n in (1, 2)]
    runs = [[list(clip_loader.batches(epoch)) for epoch in range(2)] for clip_loader in loaders]
    for epoch in range(2):
        order = epoch_order(train, 0, epoch)
        expected = np.where(order == train[5], train[6], order)
        for run in runs:
            assert np.array_equal(np.concatenate([batch.numbers for batch in run[epoch]]), expected)
            for batch in run[epoch]:
                pixels = np.stack([frames_of(shards, number) for number in batch.numbers])
                assert np.array_equal(batch.clips.permute(0, 1, 3, 4, 2).numpy(), pixels)
    for clip_loader in loaders:
        assert list(clip_loader.damaged) == [train[5]]
        assert key in clip_loader.damaged[int(train[5])]


@pytest.mark.parametrize("cache", ["none", "ram"])
def test_damage_in_evaluation_is_masked(own_shards, cache):
    val = open_shards(own_shards).numbers("val")
    damage(own_shards, int(val[2]))
    clip_loader = ClipLoader(own_shards, "val", 3, on_error="skip", max_errors=0.5, cache=cache)
    for epoch in range(2):
        batches = list(clip_loader.batches(epoch))
        assert np.concatenate([batch.mask for batch in batches]).tolist() == [True, True, False] + [True] * 5


def cached(shards, split, batch_size, cache):
    """A loader that skips; `host` keeps sheets beside it, as with a GPU."""
    plain = "none" if cache == "host" else cache
    clip_loader = ClipLoader(shards, split, batch_size, on_error="skip", max_errors=0.2, cache=plain)
    if cache == "host":
        count = len(clip_loader.numbers)
        clip_loader._host_cache = ClipCache(count, clip_loader.shards.members, clip_loader.device, stored=True)
    return clip_loader


@pytest.mark.parametrize("cache", ["none", "ram", "host"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_an_error_that_passes_costs_one_occurrence(shards_folder, split, cache):
    """A clip and its label are of one number, whatever was read before; in evaluation the clip counts again."""
    numbers = open_shards(shards_folder).numbers(split)
    shards = flaky(shards_folder, int(numbers[3]))
    clip_loader = cached(shards, split, 8, cache)
    for epoch in range(3):
        batches = list(clip_loader.batches(epoch))
        order, failed = clip_loader.order(epoch), epoch == 0
        found, mask = (np.concatenate([getattr(batch, name) for batch in batches]) for name in ("numbers", "mask"))
        stands_in = failed and split == "train"
        assert np.array_equal(found, np.where(order == numbers[3], numbers[4], order) if stands_in else order)
        assert np.array_equal(mask, (order != numbers[3]) | (split == "train") | (not failed))
        for batch in batches:
            pixels = np.stack([frames_of(shards, number) for number in batch.numbers])
            clips = batch.clips.permute(0, 1, 3, 4, 2).numpy()
            assert np.array_equal(clips[batch.mask], pixels[batch.mask])
            assert np.array_equal(batch.seeds[:, 0], order[: len(batch.mask)]), "what augmentation is drawn from"
            order = order[len(batch.mask) :]
    assert list(clip_loader.damaged) == [numbers[3]]


def test_errors_that_pass_do_not_add_up_over_epochs(shards_folder):
    """In each of six epochs another clip fails, and is read well in the next one."""
    numbers = open_shards(shards_folder).numbers("train")[::3][:6].tolist()
    shards = flaky(shards_folder, *numbers)
    clip_loader = ClipLoader(shards, batch_size=4, shuffle=False, on_error="skip", max_errors=0.15)
    for epoch in range(7):
        assert sum((~batch.mask).sum() for batch in clip_loader.batches(epoch)) == (epoch < 6)
    clip_loader.check_damaged(lambda messages: messages)
    assert list(clip_loader.damaged) == numbers, "all are reported"


@pytest.mark.parametrize("max_errors", [0.0, 0.05])
def test_too_much_damage_stops_all_the_same(own_shards, max_errors):
    for number in open_shards(own_shards).numbers("train")[:2]:
        damage(own_shards, int(number))
    with pytest.raises(FormatError, match=r"[12] of 20 clips are damaged, the last: .*train-"):
        list(ClipLoader(own_shards, on_error="skip", max_errors=max_errors))


def test_every_clip_damaged_ends(own_shards):
    for number in open_shards(own_shards).numbers("train"):
        damage(own_shards, int(number))
    with pytest.raises(FormatError, match="all 20 clips are damaged"):
        list(ClipLoader(own_shards, on_error="skip", max_errors=1.0))


def test_what_all_ranks_have_met_is_counted_together(own_shards):
    """Two damaged clips of 20, and each rank meets one."""
    ranks = [ClipLoader(own_shards, batch_size=20, on_error="skip", max_errors=0.05, rank=i, world=2) for i in (0, 1)]
    for loader, number in zip(ranks, ranks[0].order(0)[[0, -1]].tolist(), strict=True):
        damage(own_shards, number)
        next(loader.batches(0))
        loader.close()  # or it reads the next epoch, and meets the other's clip

    def gather(values):
        return np.concatenate([np.array(list(loader.damaged.values()), object) for loader in ranks])

    ranks[0].check_damaged(lambda values: values)
    for loader in ranks:
        with pytest.raises(FormatError, match=r"2 of 20 clips are damaged, the last: .*train-"):
            loader.check_damaged(gather)


def cut_short(folder, number):
    """The shard's last payload is lost, as when a copy breaks off."""
    shards = open_shards(folder)
    path, samples = shards.payload_path(number, "frames"), shards.samples
    same = samples[(samples["split"] == samples["split"][number]) & (samples["shard"] == samples["shard"][number])]
    os.truncate(path, int(same["frames_offset"].max()) + 5)
    return int(np.flatnonzero(samples["key"] == same["key"][same["frames_offset"].argmax()])[0])


def not_a_picture(folder, number):
    """A payload that fits its CRC and is no JPEG: the build was wrong, not the copy."""
    path = folder / "samples.npy"
    samples = np.load(path)
    with open(open_shards(folder).payload_path(number, "frames"), "r+b") as file:
        file.seek(int(samples["frames_offset"][number]))
        file.write(bytes(samples["frames_length"][number]))
    samples["frames_crc"][number] = zlib.crc32(bytes(samples["frames_length"][number]))
    path.write_bytes(npy_bytes(samples))
    index = json.loads((folder / "index.json").read_text())
    index["sha256"]["samples.npy"] = sha256(path.read_bytes())
    (folder / "index.json").write_text(json.dumps(index))
    return number


def altered(folder, number):
    damage(folder, number)
    return number


@pytest.mark.parametrize("kind", [cut_short, not_a_picture, altered])
@pytest.mark.parametrize("with_simplejpeg", [True, False])
def test_each_kind_of_damage_is_one_clear_error_or_is_skipped(own_shards, kind, with_simplejpeg, monkeypatch):
    if not with_simplejpeg:
        monkeypatch.setattr(frames, "simplejpeg", None)
    number = kind(own_shards, int(open_shards(own_shards).numbers("train")[5]))
    shards = open_shards(own_shards)
    with pytest.raises(FormatError) as caught:
        list(ClipLoader(own_shards, batch_size=4))
    message = str(caught.value)
    assert message.startswith(f"{shards.shard(number)}: clip {shards.key(number)}")
    assert message.endswith(("copy the folder again", "build or copy the folder again"))
    loaders = [ClipLoader(own_shards, batch_size=4, on_error="skip", max_errors=0.1, workers=n) for n in (1, 4)]
    runs = [np.concatenate([batch.numbers for batch in loader.batches(0)]) for loader in loaders]
    assert np.array_equal(*runs)
    assert len(runs[0]) == 20
    assert number not in runs[0]
    assert [list(loader.damaged) for loader in loaders] == [[number]] * 2
