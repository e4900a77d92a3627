import dataclasses

import numpy as np
import pytest
from builds import run_build
from PIL import Image

from trainer.shards.shard_set import open_shards
from trainer.tools import split_audit
from trainer.tools.split_audit import audit_split


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    """Pictures of three classes, eight recordings of each, six pictures of a recording, which look much alike."""
    root, rng = tmp_path_factory.mktemp("windows"), np.random.default_rng(0)
    rows = ["path,class,group,split"]
    for name in "abc":
        person = rng.normal(0, 2, (16, 16, 3))
        for recording in range(8):
            scene = person + rng.normal(0, 25, (16, 16, 3))
            for i in range(6):
                path = root / "data" / name / f"{recording}-{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                values = 128 + scene + rng.normal(0, 10, (16, 16, 3))
                Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(path)
                rows.append(f"{name}/{path.name},{name},{name}{recording},train")
    (root / "manifest.csv").write_text("\n".join(rows))
    run_build(root / "data", root / "shards", manifest=root / "manifest.csv", frames=1, size=16, shard_size=256)
    return open_shards(root / "shards")


def test_windows_of_one_recording_flatter_a_random_split(windows):
    line, warning = audit_split(windows)
    at_random, by_groups = (float(line.split(word)[1].split()[0]) for word in ("accuracy ", "split of the clips, "))
    assert at_random > 0.95 and by_groups < at_random - 0.1 and "(144 clips of 24 groups)" in line
    assert warning.startswith("WARNING: clips of one group are alike")


def test_a_group_that_is_too_large_is_left_out(windows, monkeypatch):
    monkeypatch.setattr(split_audit, "MOST_CLIPS", 120)
    samples = np.array(windows.samples)
    names = np.unique(samples["group"])
    samples["group"][np.isin(samples["group"], names[::2])] = names[0]  # 72 of the 144
    line, *_ = audit_split(dataclasses.replace(windows, samples=samples))
    assert "(72 clips of 12 groups)" in line


def test_groups_that_say_nothing_give_no_warning(windows):
    samples = np.array(windows.samples)
    samples["group"] = np.random.default_rng(0).permutation(len(samples)) // 6  # of no account
    (line,) = audit_split(dataclasses.replace(windows, samples=samples))
    assert "a random split of the clips" in line


def test_clips_that_are_groups_of_their_own_need_no_line(windows):
    samples = np.array(windows.samples)
    samples["group"] = np.arange(len(samples))
    assert audit_split(dataclasses.replace(windows, samples=samples)) == []
