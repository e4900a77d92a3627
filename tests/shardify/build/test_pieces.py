"""Manifests with `start` and `end`: pieces of videos from the row to the repaired shard."""

import numpy as np
import pytest
from builds import SMALL, run_build, tree
from media import numbered_picture, numbered_video, read_number

from shardify.build.plan import plan_build
from shardify.build.request import Changes
from shardify.format.index import read_index, read_rows
from shardify.format.members import members_of
from shardify.format.settings import BuildSettings
from shardify.format.tar import read_shard
from shardify.sources.catalog import list_sources
from shardify.tools.repair import repair_folder
from shardify.tools.verify import verify_folder

BOX = (1.0, 2.0, 30.0, 40.0)
HEAD = "path,class,start,end\n"
# 30 frames of 0.1 s in each video
ROWS = "a.mp4,real,0,1\na.mp4,fake,1,2\nb.mp4,real,0.5,1.5\nb.mp4,fake,2,3.5\nc.mp4,real,,\nc.mp4,fake,2.91,2.99\n"


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    for number, name in enumerate("abc"):
        numbered_video(
            tmp_path / f"data/{name}.mp4", 30, rate=10, codec="mpeg4",
            picture=lambda i, *size, first=100 * number: numbered_picture(first + i, *size),
        )  # fmt: skip
    return tmp_path / "data"


def built(data, out, rows, **options):
    manifest = data.parent / "m.csv"
    manifest.write_text(HEAD + rows)
    return run_build(data, out, manifest=manifest, size=64, codec="raw", **options)


def shown(out):
    """Source → the numbers on the frames of its clip, or why it has none."""
    found = {row["source"]: row["error"] for row in read_rows(out) if row["status"] == "failed"}
    keys = {row["key"]: row["source"] for row in read_rows(out) if row["status"] == "ok"}
    frames = members_of(BuildSettings(**{**SMALL, "size": 64, "codec": "raw"}))["frames"]
    for path in sorted(out.glob("*.tar")):
        for name, _, content in read_shard(path):
            key, _, extension = name.partition(".")
            if extension == "npy":
                found[keys[key]] = [read_number(picture) for picture in frames.decode(content)]
    return found


def test_pieces_are_clips_of_their_own(data, tmp_path):
    out = tmp_path / "s"
    report = built(data, out, ROWS)
    assert (report.ok_inputs, report.failed_inputs) == (5, 1)
    assert shown(out) == {
        "a.mp4#t=0,1": [1, 3, 6, 8],
        "a.mp4#t=1,2": [11, 13, 16, 18],
        "b.mp4#t=0.5,1.5": [106, 108, 111, 113],
        "b.mp4#t=2,3.5": [121, 123, 126, 128],  # ends with the video, half a second before
        "c.mp4": [203, 211, 218, 226],
        "c.mp4#t=2.91,2.99": "no frame begins in its piece, 2.91 to 2.99 s",
    }
    groups = {row["source"]: (row["group"], row["split"]) for row in read_rows(out)}
    assert len(set(groups.values())) == 3 and groups["a.mp4#t=0,1"] == groups["a.mp4#t=1,2"]
    assert len(np.unique(read_index(out).samples["source"])) == 5  # each is a video of its own for figures by video
    before = tree(out)
    built(data, out, ROWS)
    assert tree(out) == before and verify_folder(out, 1) == []


def test_boxes_and_lists_name_the_video(tmp_path):
    (tmp_path / "m.csv").write_text(HEAD + "a.mp4,real,0,1\na.mp4,fake,1,2\nb.mp4,real,0,1\nb.mp4,fake,1,2\n")
    (tmp_path / "train.txt").write_text("a.mp4\n")
    (tmp_path / "test.txt").write_text("b\n")
    catalog = list_sources(tmp_path, tmp_path / "m.csv", split_file=tmp_path / "train.txt")
    jobs = [job for shard in plan_build(catalog, BuildSettings(), None, {"a.mp4": BOX}).shards for job in shard.jobs]
    assert {job.source: (job.split, job.box) for job in jobs} == {
        "a.mp4#t=0,1": ("train", BOX),
        "a.mp4#t=1,2": ("train", BOX),
    }
    assert {source.split for source in catalog.sources if source.video == "b.mp4"} == {"test"}


def test_a_lost_shard_has_the_same_pieces_again(data, tmp_path):
    out = tmp_path / "s"
    built(data, out, ROWS)
    before = tree(out)
    for path in out.glob("*.tar"):
        path.unlink()
    repair_folder(data, out)
    assert tree(out) == before


def test_a_piece_that_is_cut_anew_is_noticed(data, tmp_path, caplog):
    out = tmp_path / "s"
    built(data, out, ROWS)
    before = tree(out)
    caplog.clear()
    changed = ROWS.replace("a.mp4,fake,1,2", "a.mp4,fake,2,3")
    built(data, out, changed)
    lines = "\n".join(caplog.messages)
    assert "changed since the last build: 1 videos, for example a.mp4#t=1,2; their clips are kept as they were" in lines
    assert "not packed beside them: 1 new pieces of these videos, for example a.mp4#t=2,3" in lines
    assert tree(out) == before
    built(data, out, changed, changes=Changes(prune=True))
    assert tree(out) == before  # it is changed, not gone
    built(data, out, changed, changes=Changes(rebuild_changed=True))
    assert "a.mp4#t=1,2" not in shown(out) and shown(out)["a.mp4#t=2,3"] == [21, 23, 26, 28]
    built(data, out, changed + "a.mp4,real,1,2\n")  # another one beside those that stay
    assert shown(out)["a.mp4#t=1,2"] == [11, 13, 16, 18] and verify_folder(out, 1) == []


def test_a_failed_piece_is_tried_again_when_it_is_mended(data, tmp_path):
    out = tmp_path / "s"
    built(data, out, ROWS)
    built(data, out, ROWS.replace("2.91,2.99", "2,3"))
    assert shown(out)["c.mp4#t=2,3"] == [221, 223, 226, 228] and len(shown(out)) == 6


def test_pieces_of_a_video_are_no_twins_and_copies_of_it_are(data, tmp_path, caplog):
    (data / "copy.mp4").write_bytes((data / "a.mp4").read_bytes())
    built(data, tmp_path / "s", ROWS)
    assert not [line for line in caplog.messages if "the same bytes" in line]
    built(data, tmp_path / "s", ROWS + "copy.mp4,fake,0,1\n")
    assert any("the same bytes in two classes" in line and "copy.mp4#t=0,1" in line for line in caplog.messages)
