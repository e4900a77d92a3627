"""Batches hold the very pixels of the sheets, in the order's order, whatever decodes, caches or interrupts them."""

import numpy as np
import pytest
import torch
from folders import FRAMES, SIZE, build_shards, make_clips
from loading import damage, frames_of

from shardify.format.members import frames as frames_module
from trainer import ClipLoader
from trainer.data.cache import ClipCache
from trainer.data.order import epoch_order
from trainer.errors import FormatError
from trainer.shards.shard_set import open_shards
from trainer.transforms.augment import draw


@pytest.mark.parametrize("with_simplejpeg", [True, False])
@pytest.mark.parametrize("made", ["shards_folder", "raw_folder"])
@pytest.mark.parametrize("cache", ["none", "ram", "device"])
def test_batches_hold_the_sheets_pixels(made, cache, with_simplejpeg, request, monkeypatch):
    if with_simplejpeg:
        pytest.importorskip("simplejpeg")
    else:
        monkeypatch.setattr(frames_module, "simplejpeg", None)
    shards = open_shards(request.getfixturevalue(made))
    clip_loader = ClipLoader(shards, "train", 8, seed=3, cache=cache)
    for epoch in range(2):
        order = epoch_order(shards.numbers("train"), 3, epoch)
        batches = list(clip_loader.batches(epoch))
        assert [len(batch.numbers) for batch in batches] == [8, 8, 4]
        assert np.array_equal(np.concatenate([batch.numbers for batch in batches]), order)
        for batch in batches:
            assert batch.clips.shape[1:] == (FRAMES, 3, SIZE, SIZE)
            assert batch.clips.dtype == torch.uint8
            assert batch.mask.all()
            expected = np.stack([frames_of(shards, number) for number in batch.numbers])
            assert np.array_equal(batch.clips.permute(0, 1, 3, 4, 2).numpy(), expected)
    assert clip_loader.hit_rate == (0.0 if cache == "none" else 0.5)


@pytest.mark.parametrize("frames", [1, 2, 4, 7])
def test_batches_are_not_overwritten_by_later_ones(frames, data_folder, tmp_path):
    """Buffers are reused, so what a batch holds must be a copy, whatever the grid."""
    shards = open_shards(build_shards(data_folder, tmp_path / "shards", frames=frames))
    kept = [batch for epoch in range(3) for batch in ClipLoader(shards, batch_size=2).batches(epoch)]
    for batch in kept:
        expected = np.stack([frames_of(shards, number) for number in batch.numbers])
        assert np.array_equal(batch.clips.permute(0, 1, 3, 4, 2).numpy(), expected)


def test_for_any_training_loop(shards_folder):
    clip_loader = ClipLoader(str(shards_folder), split="train", batch_size=16)
    epochs = [list(clip_loader) for _ in range(2)]
    assert len(clip_loader) == len(epochs[0]) == 2
    assert [tuple(clips.shape) for clips, _ in epochs[0]] == [(16, FRAMES, 3, SIZE, SIZE), (4, FRAMES, 3, SIZE, SIZE)]
    assert not torch.equal(epochs[0][0][0], epochs[1][0][0]), "every pass has a new order"
    labels = torch.cat([labels for _, labels in epochs[0]])
    assert labels.dtype == torch.int64
    assert torch.bincount(labels).tolist() == [10, 10]
    for clips, labels in epochs[0]:
        brightness = clips.float().mean((1, 2, 3, 4))
        assert torch.equal(labels, (brightness > 110).long()), "of these very clips: class a is dark, b is bright"


@pytest.mark.parametrize("cache", ["none", "ram", "host"])
@pytest.mark.parametrize("with_simplejpeg", [True, False])
def test_in_inference_mode_too(shards_folder, cache, with_simplejpeg, monkeypatch):
    """Tensors made there may not be written to by other threads."""
    if not with_simplejpeg:
        monkeypatch.setattr(frames_module, "simplejpeg", None)
    clip_loader = ClipLoader(shards_folder, "val", cache="none" if cache == "host" else cache)
    if cache == "host":
        clip_loader._host_cache = ClipCache(8, clip_loader.shards.members, clip_loader.device, stored=True)
    plain = [batch.clips for batch in ClipLoader(shards_folder, "val").batches(0)]
    with torch.inference_mode():
        for _ in range(2):
            batches = [batch.clips for batch in clip_loader.batches(0)]
            assert all(torch.equal(a, b) for a, b in zip(plain, batches, strict=True))


def test_evaluation_keeps_plan_order(shards_folder):
    clip_loader = ClipLoader(shards_folder, "val", 3)
    numbers = np.concatenate([batch.numbers for batch in clip_loader.batches(5)])
    assert np.array_equal(numbers, clip_loader.shards.numbers("val"))


@pytest.mark.parametrize("cache", ["ram", "none"])
def test_a_cache_that_is_filled_in_part(shards_folder, cache):
    """Ranks see other clips in every epoch, and a resumed epoch begins in its middle."""
    clip_loader = ClipLoader(shards_folder, batch_size=4, rank=1, world=2, cache=cache)
    fresh = ClipLoader(shards_folder, batch_size=4, rank=1, world=2)
    for epoch in range(4):
        for a, b in zip(clip_loader.batches(epoch, 1), fresh.batches(epoch, 1), strict=True):
            assert torch.equal(a.clips, b.clips)
    assert (0 < clip_loader.hit_rate < 1) == (cache == "ram")


def test_a_cache_in_host_memory(own_shards):
    """As it is used beside a GPU: clips are kept as they come, but for a damaged one and what stands in for it."""
    number = int(open_shards(own_shards).numbers("train")[5])
    damage(own_shards, number)
    clip_loader = ClipLoader(own_shards, batch_size=8, on_error="skip", max_errors=0.1)
    clip_loader._host_cache = ClipCache(20, clip_loader.shards.members, clip_loader.device, stored=True)
    fresh = ClipLoader(own_shards, batch_size=8, on_error="skip", max_errors=0.1)
    for epoch in range(2):
        for a, b in zip(clip_loader.batches(epoch), fresh.batches(epoch), strict=True):
            assert torch.equal(a.clips, b.clips)
            assert np.array_equal(a.numbers, b.numbers)
    assert clip_loader.hit_rate == 19 / 40


def test_balanced_and_by_shards(shards_folder):
    shards = open_shards(shards_folder)
    train = shards.numbers("train")
    few = train[(shards.labels[train] == 0) | (train == train[shards.labels[train] == 1][0])]
    clip_loader = ClipLoader(shards, batch_size=4, numbers=few, balanced=True, shuffle_shards=1)
    batches = list(clip_loader.batches(0))
    assert abs(np.diff(np.bincount(shards.labels[np.concatenate([batch.numbers for batch in batches])]))) <= 1
    visited = shards.samples["shard"][np.concatenate([batch.numbers for batch in batches])]
    assert (np.diff(visited) != 0).sum() == len(np.unique(visited)) - 1


@pytest.mark.parametrize("first_step", [0, 1, 2, 3])
@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_an_epoch_goes_on_at_any_step(shards_folder, first_step, workers):
    whole = list(ClipLoader(shards_folder, batch_size=8, seed=1).batches(2))
    rest = list(ClipLoader(shards_folder, batch_size=8, seed=1, workers=workers).batches(2, first_step))
    assert len(rest) == 3 - first_step
    for a, b in zip(whole[first_step:], rest, strict=True):
        assert np.array_equal(a.seeds, b.seeds), "what augmentation is drawn from"
        assert np.array_equal(a.numbers, b.numbers)
        assert torch.equal(a.clips, b.clips)


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_ranks_share_each_global_batch(shards_folder, world):
    parts = [list(ClipLoader(shards_folder, batch_size=6, rank=rank, world=world).batches(1)) for rank in range(world)]
    steps = list(zip(*parts, strict=True))
    order = epoch_order(open_shards(shards_folder).numbers("train"), 0, 1)
    real = [batch.numbers[batch.mask] for step in steps for batch in step]
    assert np.array_equal(np.concatenate(real), order)
    assert all(len({len(batch.numbers) for batch in step}) == 1 for step in steps)


def test_an_epoch_goes_on_with_another_number_of_ranks_and_workers(shards_folder):
    """2 ranks, then 1, then 4: the clips come as if nothing had happened, each once, with the same pixels."""
    whole = list(ClipLoader(shards_folder, batch_size=4, seed=5).batches(1))
    for cut in range(1, len(whole)):
        for world, steps in ((2, range(cut)), (1, range(cut, cut + 1)), (4, range(cut + 1, len(whole)))):
            ranks = [
                ClipLoader(shards_folder, batch_size=4, seed=5, rank=rank, world=world, workers=world).batches(
                    1, steps.start
                )
                for rank in range(world)
            ]
            for step in steps:
                parts = [next(rank) for rank in ranks]
                assert (
                    np.concatenate([part.numbers[part.mask] for part in parts]).tolist() == whole[step].numbers.tolist()
                )
                assert np.array_equal(np.concatenate([part.seeds[part.mask] for part in parts]), whole[step].seeds)
                assert torch.equal(torch.cat([part.clips[part.mask] for part in parts]), whole[step].clips)
            for rank in ranks:
                rank.close()


def test_repeats_of_a_clip_are_told_apart_by_any_number_of_ranks(shards_folder):
    """What augmentation is drawn from: with balanced classes a clip comes several times in an epoch."""
    shards = open_shards(shards_folder)
    train = shards.numbers("train")
    labels = shards.labels[train]
    few = np.sort(np.concatenate([train[labels == 0], train[labels == 1][:2]]))
    whole = None
    for world, workers in ((1, 1), (2, 4), (4, 2)):
        ranks = [
            list(
                ClipLoader(
                    shards, batch_size=4, numbers=few, balanced=True, rank=rank, world=world, workers=workers
                ).batches(3)
            )
            for rank in range(world)
        ]
        seeds = np.concatenate([part.seeds[part.mask] for step in zip(*ranks, strict=True) for part in step])
        whole = seeds if whole is None else whole
        assert np.array_equal(seeds, whole)
    assert len(np.unique(whole, axis=0)) == len(whole) == len(few)
    assert len(np.unique(whole[:, 0])) < len(whole)
    assert len(np.unique(draw(0, 3, whole), axis=0)) == len(whole), "no clip comes twice in the same way"


def test_a_split_that_is_not_there(data_folder, tmp_path):
    shards = build_shards(make_clips(tmp_path / "data", {"train/a": 2, "train/b": 2}), tmp_path / "shards")
    with pytest.raises(FormatError, match="has no val split"):
        ClipLoader(shards, "val")
    with pytest.raises(FormatError, match="validation is no split; choose train, val or test"):
        ClipLoader(shards, "validation")
