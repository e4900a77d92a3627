"""The tables of a folder with latents: those of the pictures, and where the new member lies."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np

from shardify.format.card import card_bytes
from shardify.format.index import all_shards, json_bytes, sha256
from shardify.format.members.array import Array, decode_array
from shardify.format.members.latent import Latent
from shardify.format.records import member_fields, npy_bytes, sample_dtype
from shardify.format.tar import open_archive
from shardify.format.words import SPLITS
from shardify.storage.local import write_atomically
from trainer.errors import FormatError
from trainer.evaluation.metrics import psnr
from trainer.tools.latents.pictures import Pictures
from trainer.tools.latents.statistics import LatentStatistics


def write_tables(pictures: Pictures, out: Path, entries: list[dict], latent: Array, about: dict) -> None:
    """index.json, last, samples.npy, samples.csv as it is, and the card.

    entries: of the journal, in the order of index.json. latent, about: the new member, and all that decides it.
    """
    member = Latent(
        sides=latent.sides,
        **about,
        **_statistics(out, entries, latent),
        reconstruction=_reconstruction(entries),
    )
    old, rows = pictures.index, {row["key"]: row for entry in entries for row in entry["rows"]}
    meta = {name: value for name, value in copy.deepcopy(old.meta).items() if name != "index_sha256"}
    meta["members"]["latent"] = member.to_dict()
    for shard, entry in zip(all_shards(meta), entries, strict=True):
        shard |= {name: entry[name] for name in ("bytes", "sha256", "versions")}
    placed = [field for name in meta["members"] for field in member_fields(name)]
    samples = np.zeros(len(old.samples), sample_dtype(meta["members"], [head["name"] for head in meta["heads"]]))
    for name in old.samples.dtype.names:
        samples[name] = old.samples[name]
    for record in samples:
        row = rows[record["key"].decode()]
        for name in placed:
            record[name] = row.get(name, record[name])  # the CRCs of the other members stay
    npy, csv = npy_bytes(samples), (old.folder / "samples.csv").read_bytes()
    meta["sha256"] = {"samples.npy": sha256(npy), "samples.csv": sha256(csv)}
    meta["index_sha256"] = sha256(json_bytes(meta))
    for name, content in {
        "samples.npy": npy, "samples.csv": csv, "README.md": card_bytes(meta, samples), "index.json": json_bytes(meta)
    }.items():  # fmt: skip
        write_atomically(out / name, content)


def _statistics(out: Path, entries: list[dict], latent: Array) -> dict:
    """Of train alone, from what its shards hold. Raises FormatError where all latents are the same."""
    found = LatentStatistics(latent.sides[0] // 2)
    for entry in entries:
        if entry["samples"] and entry["name"].startswith("train-"):
            with open_archive(out / entry["name"]) as archive:
                for file in archive.members:
                    if file.name.endswith(f".{latent.extension}"):
                        found.add(decode_array(archive.read(file, file.length))[None])
    figures = found.figures()
    if figures["scaling_factor"] is None:
        raise FormatError(f"{out}: all latents of train are the same, so none can be learned; check the autoencoder")
    return figures


def _reconstruction(entries: list[dict]) -> dict:
    """The mean squared error and the PSNR of each split that has pictures."""
    figures = {}
    for split in SPLITS:
        errors = [row["mse"] for entry in entries if entry["name"].startswith(f"{split}-") for row in entry["rows"]]
        if errors:
            mse = float(np.mean(errors))
            figures[split] = {"mse": mse, "psnr": psnr(mse)}
    return figures
