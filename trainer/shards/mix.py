"""Several shards folders as one set of clips: each taken whole, their classes matched by name."""

from __future__ import annotations

import dataclasses
import hashlib
from itertools import permutations
from pathlib import Path

import numpy as np

from shardify.format.members import Member
from shardify.format.members.latent import Latent
from shardify.format.records import UNLABELLED, Head, sample_dtype
from shardify.format.words import SPLITS, meaning_of
from trainer.errors import FormatError, SettingsError
from trainer.shards.shard_cache import ShardCache
from trainer.shards.shard_set import ShardSet, differing_options, open_shards, videos_of

TRAIN = SPLITS.index("train")


def open_all(
    names: Path | str | list[Path | str], frames: int | None = None, cache: ShardCache | None = None
) -> ShardSet:
    """The shards of one name or of several, mixed; as `open_shards` and `mix_shards`, with their errors."""
    cache = cache or ShardCache()
    names = names if isinstance(names, (list, tuple)) else [names]
    return mix_shards([open_shards(name, frames, cache) for name in names])


def mix_shards(parts: list[ShardSet]) -> ShardSet:
    """All clips of several folders as one set, numbered in the order of the folders; a single folder as it is.

    Those that are remote have one cache.
    Classes are matched by name: those of the first folder keep their indices, new ones of the others follow. Groups of
    two folders are taken for different ones, but for those that share an equal clip; equal clips in two splits are said
    in `notes`.
    Raises FormatError where a folder is named twice, was not made by `shardify build`, or holds other kinds of clips.
    """
    if len(parts) == 1:
        return parts[0]
    _check_alike(parts)
    heads = [_union(same) for same in zip(*(part.heads for part in parts), strict=True)]
    samples, paths, shift = [], {}, {"shard": 0, "group": 0, "source": 0}
    for part in parts:
        records = _records(part, heads)
        for field, first in shift.items():
            records[field] += first
        records["original"][records["original"] >= 0] += shift["source"]
        paths |= {(split, shard + shift["shard"]): path for (split, shard), path in part.paths.items()}
        ends = {"shard": max(shard for _, shard in paths), "group": records["group"].max()}
        ends["source"] = max(records["source"].max(), records["original"].max())
        shift = {field: int(ends[field]) + 1 for field in shift}
        samples.append(records)
    samples = np.concatenate(samples)
    samples["group"] = _groups(samples, parts[0].first_member.name)
    return ShardSet(
        folder=parts[0].folder,
        members=parts[0].members,
        heads=heads,
        samples=samples,
        paths=paths,
        unpacked=frozenset().union(*(part.unpacked for part in parts)),
        fingerprint=hashlib.sha256(" ".join(part.fingerprint for part in parts).encode()).hexdigest(),
        notes=tuple(_notes(parts)),
        parts=tuple(parts),
        copy=parts[0].copy,
        cache=_one_cache(parts),
    )


def _one_cache(parts: list[ShardSet]) -> ShardCache | None:
    caches = [part.cache for part in parts if part.cache]
    for other in caches[1:]:
        caches[0].adopt(other)
    return caches[0] if caches else None


def check_weights(weights: list[float] | None, shards: ShardSet, numbers: np.ndarray) -> None:
    """Raises SettingsError where weights of folders do not go with these, or with the clips to draw, int64 (N,)."""
    if weights is None:
        return
    folders = [part.name for part in shards.parts or (shards,)]
    if len(weights) != len(folders):
        raise SettingsError(
            f"weights is {weights}; one number per shards folder is needed, in the order of {', '.join(folders)}"
        )
    counts = np.bincount(shards.folder_numbers[numbers], minlength=len(folders))
    for weight, count, folder in zip(weights, counts, folders, strict=True):
        if weight and not count:
            raise SettingsError(f"weights is {weights}, but {folder} has no clip to train on; give it the weight 0")


def drop_unweighted(weights: list[float] | None, shards: ShardSet, numbers: np.ndarray) -> np.ndarray:
    """The numbers, int64 (N,), without those of folders of which nothing is drawn. Raises SettingsError."""
    check_weights(weights, shards, numbers)
    return numbers if weights is None else numbers[np.array(weights)[shards.folder_numbers[numbers]] > 0]


def repeats_train(shards: ShardSet, other: ShardSet) -> np.ndarray:
    """Which clips have the payload of a train clip of other shards, bool (N,); both have a CRC of every clip."""
    return np.isin(_payloads(shards), _payloads(other)[other.samples["split"] == TRAIN])


def _check_alike(parts: list[ShardSet]) -> None:
    first = parts[0]
    for i, part in enumerate(parts):
        if not part.has_crc:
            raise FormatError(f"{part.folder}: has no index; only folders made by `shardify build` can be mixed")
        if any(part.folder.resolve() == other.folder.resolve() for other in parts[:i]):
            raise FormatError(f"{part.folder}: is named twice; to draw more of a folder, use data.weights")
        if i and any(isinstance(each.members.get("latent"), Latent) for each in (part, first)):
            raise FormatError(
                f"{part.folder}: does not go with {first.folder}: latents are standardised by the statistics of their "
                f"own folder's train split; build one folder of all pictures (synthetic ones join train by their "
                f"mark), and encode that with trainer.encode"
            )
        if _described(part.members.values()) != _described(first.members.values()):
            raise FormatError(
                f"{part.folder}: holds {_kinds(part)}, {first.folder} {_kinds(first)}; build them with the same options"
            )
        if [head.name for head in part.heads] != [head.name for head in first.heads]:
            raise FormatError(f"{part.folder}: has other labels than {first.folder}; build them with the same options")


def _described(members: list[Member]) -> list[dict]:
    """What decoding depends on: a JPEG's quality and how a picture was made square are not among it."""
    return [{**dataclasses.asdict(member), "quality": 0, "fit": ""} for member in members]


def _kinds(part: ShardSet) -> str:
    return ", ".join(f"{name} {' × '.join(map(str, member.shape))}" for name, member in part.members.items())


def _union(heads: tuple[Head, ...]) -> Head:
    return Head(heads[0].name, list(dict.fromkeys(name for head in heads for name in head.classes)))


def _records(part: ShardSet, heads: list[Head]) -> np.ndarray:
    """A folder's samples with the fields of version 2 and the class indices of `heads`."""
    old = part.samples
    new = np.zeros(len(old), sample_dtype(part.members, [head.name for head in heads]))
    for field in set(new.dtype.names) & set(old.dtype.names):
        new[field] = old[field]
    if "source" not in old.dtype.names:  # version 1
        new["source"] = np.unique(videos_of(part, np.arange(len(old))), return_inverse=True)[1]
        new["original"] = -1
    for own, head in zip(part.heads, heads, strict=True):
        index = np.array([*(head.classes.index(name) for name in own.classes), UNLABELLED])  # -1 finds the last one
        new[head.field] = index[old[own.field]]
    if (old["target"] == old[part.heads[0].field]).all():  # built without targets: they are the class indices
        new["target"] = new[heads[0].field]
    return new


def _groups(samples: np.ndarray, member: str) -> np.ndarray:
    """The groups, int (N,), with those made one that share an equal payload: two builds of the same videos."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    groups, num_groups = samples["group"].astype(np.int64), int(samples["group"].max()) + 1
    _, payload = np.unique(_packed(samples[[f"{member}_length", f"{member}_crc"]]), return_inverse=True)
    size = num_groups + int(payload.max()) + 1
    links = coo_array((np.ones(len(groups), bool), (groups, num_groups + payload)), shape=(size, size))
    return connected_components(links, directed=False)[1][groups]


def _notes(parts: list[ShardSet]) -> list[str]:
    notes = [f"{part.folder}: {note}" for part in parts for note in part.notes]
    if [meaning_of(name) for name in _union([part.heads[0] for part in parts]).classes] == ["fake", "real"]:
        notes.append(f"class 1, whose score is reported, is real, as in {parts[0].folder}; name another folder first")
    names = [part.classes for part in parts]
    if any(sorted(classes) != sorted(names[0]) for classes in names):
        listed = "; ".join(f"{part.folder}: {', '.join(part.classes)}" for part in parts)
        notes.append(f"the folders' classes differ ({listed}); those of one name are one class")
    if shared := _shared_clips(parts):
        notes.append(f"{shared} clips of val and test are equal to train clips of another folder, which the model sees")
    if any(differing_options(part.build, parts[0].build) for part in parts):
        notes.append(f"the folders were built with different options; trainer.predict makes clips as {parts[0].folder}")
    return notes


def _shared_clips(parts: list[ShardSet]) -> int:
    """Clips of val and test whose payload is that of a train clip in another folder."""
    shared = [np.zeros(len(part.samples), bool) for part in parts]
    for i, j in permutations(range(len(parts)), 2):
        shared[i] |= (parts[i].samples["split"] != TRAIN) & repeats_train(parts[i], parts[j])
    return int(sum(map(np.count_nonzero, shared)))


def _payloads(shards: ShardSet) -> np.ndarray:
    """What clips are told apart by, uint64 (N,)."""
    return _packed(shards.samples[[f"{shards.first_member.name}_{end}" for end in ("length", "crc")]])


def _packed(payloads: np.ndarray) -> np.ndarray:
    length, crc = (payloads[name].astype(np.uint64) for name in payloads.dtype.names)
    return (length << np.uint64(32)) | crc
