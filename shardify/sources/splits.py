"""The split of every group, train, val or test: the same again when videos are added later."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence


def split_position(seed: int, group: str) -> float:
    """A group's own place in [0, 1), which depends on nothing but the seed and its name."""
    digest = hashlib.sha256(f"{seed}:{group}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def assign_splits(
    groups: Sequence[str],
    classes: Sequence[str],
    given: Sequence[str | None],
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> list[str]:
    """A split for every source.

    A group with a given split stays there, other groups fall into test, val or train by `split_position`. Where
    that leaves a class out of a split although it has groups enough, the group nearest to the border moves.
    """
    fixed = {group: split for group, split in zip(groups, given, strict=True) if split}
    fractions = {"test": test_fraction, "val": val_fraction}
    position = {group: split_position(seed, group) for group in set(groups)}
    split_of = dict(fixed)
    for group, place in position.items():
        if group not in fixed:
            split_of[group] = (
                "test" if place < test_fraction else "val" if place < test_fraction + val_fraction else "train"
            )
    classes_of = defaultdict(Counter)
    for group, name in zip(groups, classes, strict=True):
        classes_of[group][name] += 1
    wanted = [split for split, fraction in fractions.items() if fraction > 0]
    for name in sorted(set(classes)):
        having = sorted((g for g in position if classes_of[g][name]), key=position.__getitem__)
        for split in wanted:
            if any(split_of[group] == split for group in having):
                continue
            spare = [group for group in having if split_of[group] == "train"]
            movable = [group for group in spare if group not in fixed]
            if movable and len(spare) > 1:
                split_of[movable[0]] = split
    return [split_of[group] for group in groups]
