"""Public data sets as trees of names: empty files where their videos would lie, with their official counts."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

from shardify.build.plan import BuildPlan, plan_build
from shardify.format.settings import BuildSettings
from shardify.sources.catalog import list_sources

METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
FF_SPLITS = {"train": range(0, 720, 2), "val": range(720, 860, 2), "test": range(860, 1000, 2)}


def make_tree(root: Path, *names: str) -> Path:
    """Empty files of these names."""
    for folder in {os.path.dirname(name) for name in names}:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        os.close(os.open(f"{root}/{name}", os.O_CREAT | os.O_WRONLY))
    return root


def faceforensics(root: Path, methods: tuple[str, ...] = METHODS) -> Path:
    """FaceForensics++ c23 with a mask for one fake in ten, and some videos of DeepFakeDetection."""
    real, fake = root / "original_sequences", root / "manipulated_sequences"
    make_tree(real / "youtube/c23/videos", *(f"{i:03d}.mp4" for i in range(1000)))
    pairs = [f"{i:03d}_{i + 1:03d}" for i in range(0, 1000, 2)]
    pairs += [f"{name[4:]}_{name[:3]}" for name in pairs]
    for method in methods:
        make_tree(fake / method, *(f"c23/videos/{pair}.mp4" for pair in pairs))
        make_tree(fake / method, *(f"masks/videos/{pair}.mp4" for pair in pairs[::10]))
    make_tree(real / "actors/c23/videos", "01__exit.mp4", "02__exit.mp4")
    make_tree(fake / "DeepFakeDetection/c23/videos", "01_02__exit__ABCDEFGH.mp4")
    return root


def write_ff_lists(folder: Path) -> Path:
    """The official lists of FaceForensics++."""
    folder.mkdir(exist_ok=True)
    for split, firsts in FF_SPLITS.items():
        (folder / f"{split}.json").write_text(json.dumps([[f"{i:03d}", f"{i + 1:03d}"] for i in firsts]))
    return folder


def celebdf(root: Path) -> Path:
    """Celeb-DF version 2: 590 and 300 real, 5639 fake videos, 518 of them on the list for testing."""
    celebs = [f"id{i % 59}_{i // 59:04d}.mp4" for i in range(590)]
    youtube = [f"{i:05d}.mp4" for i in range(300)]
    fakes = [f"id{i % 59}_id{(i % 59 + 1 + i // 590) % 59}_{i // 59 % 10:04d}.mp4" for i in range(5639)]
    for folder, names in (("Celeb-real", celebs), ("YouTube-real", youtube), ("Celeb-synthesis", fakes)):
        make_tree(root / folder, *names)
    lines = [f"1 Celeb-real/{name}" for name in celebs[:108]] + [f"1 YouTube-real/{name}" for name in youtube[:70]]
    lines += [f"0 Celeb-synthesis/{name}" for name in fakes[:340]]
    (root / "List_of_testing_videos.txt").write_text("\n".join(lines) + "\n")
    return root


def dfdc(root: Path, parts: int = 3) -> Path:
    """Parts of DFDC, each with 10 originals and 4 fakes of each."""
    for part in range(parts):
        folder, entries = root / f"dfdc_train_part_{part}", {}
        for i in range(10):
            own = f"o{part}{i}.mp4"
            entries[own] = {"label": "REAL", "split": "train", "original": None}
            for k in range(4):
                entries[f"f{part}{i}{k}.mp4"] = {"label": "FAKE", "split": "train", "original": own}
        make_tree(folder, *entries)
        (folder / "metadata.json").write_text(json.dumps(entries))
    return root


def plan(data: Path, settings: BuildSettings | None = None, **options) -> BuildPlan:
    """The plan of a build; `options` are those of `list_sources`."""
    return plan_build(list_sources(data, **options), settings or BuildSettings(), None)


def jobs(built: BuildPlan) -> list:
    return [job for shard in built.shards for job in shard.jobs]


def counts(built: BuildPlan) -> dict[tuple[str, str], int]:
    """(split, class) → videos."""
    return dict(Counter((job.split, job.class_name) for job in jobs(built)))
