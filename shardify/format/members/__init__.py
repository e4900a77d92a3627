"""The kinds of payload that a sample can have: the builder writes with the same class as readers read with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from shardify.format.members.array import Array
from shardify.format.members.base import Member
from shardify.format.members.frames import Frames
from shardify.format.members.latent import Latent
from shardify.format.members.mel import Mel

if TYPE_CHECKING:
    from shardify.format.settings import BuildSettings

KINDS: dict[str, type[Member]] = {kind.kind: kind for kind in (Frames, Array, Mel, Latent)}


def members_of(settings: BuildSettings) -> dict[str, Member]:
    """The members, by name, of every clip that a build with these settings writes."""
    members = [Frames.of(settings)]
    if settings.audio != "none":
        members.append(Mel.of(settings))
    return {member.name: member for member in members}


def members_from(entries: Mapping[str, Mapping]) -> dict[str, Member]:
    """The members that index.json lists, by name, without those of kinds that this release does not know.

    Raises ValueError for an entry that no build writes.
    """
    known = {name: about for name, about in entries.items() if about["kind"] in KINDS}
    return {name: KINDS[about["kind"]].from_dict(name, about) for name, about in known.items()}
