"""README.md of a shards folder: the dataset card that Kaggle and the Hugging Face Hub show."""

from __future__ import annotations

import numpy as np
import yaml

from shardify.format.index import heads_in
from shardify.format.words import SPLITS


def card_bytes(meta: dict, samples: np.ndarray) -> bytes:
    """Front matter that names each split's tars, then what is inside and how to load it."""
    used = [split for split in SPLITS if meta["splits"][split]["samples"]]
    front = {"configs": [{"config_name": "default", "data_files": [_data_files(split) for split in used]}]}
    settings = meta["settings"]
    text = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        "# Video clips in WebDataset shards",
        f"Each clip is {settings['frames']} frames of {settings['size']}×{settings['size']} pixels. "
        f"{_payload(settings)} {_sound(meta)}{_latent(meta)}{_synthetic(meta)}`<key>.cls` holds the class index, "
        "`<key>.json` where the clip came from. `samples.csv` has a row for every input, those that failed included.",
        _counts(meta, samples, used),
        "## Load it",
        "```sh\npython -m trainer --shards .\n```",
        '```python\nimport webdataset as wds\n\nclips = wds.WebDataset("train-000000.tar", shardshuffle=False)\n'
        '```\n\n```python\nfrom datasets import load_dataset\n\nclips = load_dataset(".", split="train")\n```',
        f"Made by `shardify build` (format version {meta['version']}).",
    ]
    return ("\n\n".join(text) + "\n").encode("utf-8")


def _data_files(split: str) -> dict[str, str]:
    return {"split": split, "path": f"{split}-*.tar"}


def _payload(settings: dict) -> str:
    if settings["codec"] == "raw":
        return "`<key>.npy` is the clip, uint8 `(frames, size, size, 3)`."
    return "`<key>.jpg` is its contact sheet: all frames in one JPEG, row by row."


def _sound(meta: dict) -> str:
    if "mel" not in meta.get("members", {}):
        return ""
    mel = meta["members"]["mel"]
    return (
        f"`<key>.mel.npy` is its sound, float16 `(1, {mel['mels']}, {mel['columns']})`: the logarithm of its power in "
        f"mel bands from {mel['low']:g} to {mel['high']:g} Hz, all -23.03 where there is none. "
    )


def _synthetic(meta: dict) -> str:
    return "Some, those of the kind `synthetic`, were made by a model. " if meta.get("generated") else ""


def _latent(meta: dict) -> str:
    if "latent" not in meta.get("members", {}):
        return ""
    about = meta["members"]["latent"]
    return (
        f"`<key>.latent.npy` is its latent, float16 `({', '.join(map(str, about['shape']))})`: the mean and the "
        f"log-variance by the autoencoder {about['vae']['class']}; `index.json` has the rest under `members.latent`. "
    )


def _counts(meta: dict, samples: np.ndarray, used: list[str]) -> str:
    """A table of the clips for each head; that of the primary one has shards and failed inputs, too."""
    primary, *others = heads_in(meta)
    clips = {split: samples[samples["split"] == SPLITS.index(split)] for split in used}
    about = {split: [len(part["shards"]), part["failed"]] for split, part in meta["splits"].items()}
    body = {split: [*primary.count(clips[split]).values(), *about[split]] for split in used}
    tables = [_table(["split" if not others else primary.name, *primary.classes, "shards", "failed"], body)]
    for head in others:
        counts = {split: head.count(clips[split]) for split in used}
        body = {split: [counts[split].get(name, 0) for name in [*head.classes, ""]] for split in used}
        tables.append(_table([head.name, *head.classes, "unlabelled"], body))
    return "\n\n".join(tables)


def _table(top: list[str], body: dict[str, list[int]]) -> str:
    rows = [top, *([split, *map(str, counts)] for split, counts in body.items())]
    head, *lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(top), *lines])
