import contextlib
import io
import os
import tarfile
from dataclasses import replace

import pytest
from builds import SMALL, make_videos, run_build, tree, video_names

from shardify.build.build import build
from shardify.build.request import BuildRequest, Changes
from shardify.errors import FormatError, UsageError
from shardify.format.index import read_index, read_rows
from shardify.format.settings import BuildSettings


@pytest.fixture
def built(tmp_path):
    data = make_videos(tmp_path / "data", video_names(12))
    run_build(data, tmp_path / "s")
    return data, tmp_path / "s"


def members(out):
    """Key → all its members, over the shards that the index names; every offset is checked on the way."""
    found, index = {}, read_index(out)
    for record in index.samples:
        name = f"{['train', 'val', 'test'][record['split']]}-{record['shard']:06d}.tar"
        start, key = int(record["frames_offset"]), record["key"].decode()
        payload = (out / name).read_bytes()[start : start + int(record["frames_length"])]
        with tarfile.open(fileobj=io.BytesIO((out / name).read_bytes())) as tar:
            mine = {m.name: tar.extractfile(m).read() for m in tar if m.name.startswith(key)}
        assert mine[f"{key}.jpg"] == payload
        found[key] = mine
    return found


def test_changes_are_said_and_left_alone(built, caplog):
    data, out = built
    before = tree(out)
    (data / "real" / "v01.mp4").unlink()
    video = data / "real" / "v03.mp4"
    content = video.read_bytes()
    video.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # the same size
    run_build(data, out)
    assert tree(out) == before
    assert any(note.startswith("gone since") and "real/v01.mp4" in note for note in caplog.messages)
    assert any(note.startswith("changed since") and "real/v03.mp4" in note for note in caplog.messages)


@pytest.mark.parametrize("full_hash", [False, True])
def test_a_change_between_the_sampled_parts_of_a_long_file(tmp_path, full_hash, caplog):
    data = make_videos(tmp_path / "data", video_names(2))
    video = data / "real" / "v01.mp4"
    content = bytearray(video.read_bytes().ljust(8 << 20, b"\0"))
    video.write_bytes(content)
    run_build(data, tmp_path / "s", full_hash=full_hash)
    content[2 << 20] = 1
    video.write_bytes(content)
    run_build(data, tmp_path / "s", full_hash=full_hash)
    assert any(note.startswith("changed since") for note in caplog.messages) == full_hash


def test_prune_drops_what_is_gone_and_keeps_every_other_byte(built):
    data, out = built
    before = members(out)
    (data / "real" / "v01.mp4").unlink()
    (data / "fake" / "v02.mp4").unlink()
    report = run_build(data, out, changes=Changes(prune=True))
    after = members(out)
    assert (report.inputs, len(after)) == (10, 10)
    assert after.items() <= before.items()
    assert {row["source"] for row in read_rows(out)}.isdisjoint({"real/v01.mp4", "fake/v02.mp4"})
    assert not any(name.startswith(".") for name in tree(out))
    assert {name for name in tree(out) if name.endswith(".tar")} == set(shard_names(out))
    assert run_build(data, out, changes=Changes(prune=True)).new_inputs == 0


def shard_names(out):
    return [shard["name"] for split in read_index(out).meta["splits"].values() for shard in split["shards"]]


def test_prune_of_a_whole_shard(built):
    data, out = built
    shard = shard_names(out)[0]
    for row in read_rows(out):
        if row["shard"] == shard:
            (data / row["source"]).unlink()
    run_build(data, out, changes=Changes(prune=True))
    assert shard not in tree(out) and members(out)


def test_rebuild_changed_packs_the_new_picture(built, tmp_path):
    data, out = built
    before = members(out)
    key = next(key for key in before if key.startswith("v03"))
    make_videos(tmp_path / "other", ["real/v04.mp4"])
    stamp = (data / "real" / "v03.mp4").stat().st_mtime_ns
    os.replace(tmp_path / "other" / "real" / "v04.mp4", data / "real" / "v03.mp4")
    os.utime(data / "real" / "v03.mp4", ns=(stamp, stamp))  # as a careful copy does
    splits = {row["source"]: row["split"] for row in read_rows(out)}
    report = run_build(data, out, changes=Changes(rebuild_changed=True))
    after = members(out)
    assert (report.inputs, report.new_inputs) == (12, 1)
    assert after[key] != before[key]
    assert {k: v for k, v in after.items() if k != key} == {k: v for k, v in before.items() if k != key}
    assert {row["source"]: row["split"] for row in read_rows(out)} == splits


def test_rebuild_changed_reads_files_that_look_untouched(built):
    data, out = built
    path = data / "real" / "v03.mp4"
    stamp, content = path.stat().st_mtime_ns, path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(stamp, stamp))
    assert run_build(data, out).new_inputs == 0
    assert run_build(data, out, changes=Changes(rebuild_changed=True)).new_inputs == 1


def test_failed_inputs_stay_failed_until_they_are_tried_again(built):
    data, out = built
    late = data / "real" / "late.mp4"
    late.touch()
    assert run_build(data, out).failed_inputs == 1
    failed, late_split = tree(out), {row["source"]: row["split"] for row in read_rows(out)}["real/late.mp4"]
    assert run_build(data, out, changes=Changes(retry_failed=True)).failed_inputs == 1
    assert tree(out) == failed
    make_videos(data, ["real/late.mp4"])
    assert run_build(data, out).failed_inputs == 1
    report = run_build(data, out, changes=Changes(retry_failed=True))
    assert (report.failed_inputs, report.ok_inputs, report.new_inputs) == (0, 13, 1)
    row = {row["source"]: row for row in read_rows(out)}["real/late.mp4"]
    assert (row["status"], row["split"], row["error"]) == ("ok", late_split, "")
    assert {n: v for n, v in tree(out).items() if n in failed and n.endswith(".tar")}.items() <= failed.items()


@pytest.mark.parametrize("calls", range(1, 26, 3))
def test_killed_while_pruning(built, tmp_path, monkeypatch, calls):
    """Stopped at the n-th rename or removal: the next run ends where an undisturbed one does."""
    data, out = built
    (data / "real" / "v01.mp4").unlink()
    make_videos(data, ["real/new.mp4"])
    run_build(make_videos(tmp_path / "twin", video_names(12)), tmp_path / "t")
    left = [calls]

    def counted(function):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] <= 0:
                raise OSError(5, "Input/output error")
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(os, "replace", counted(os.replace))
    monkeypatch.setattr(os, "unlink", counted(os.unlink))
    with contextlib.suppress(OSError):
        run_build(data, out, changes=Changes(prune=True))
    monkeypatch.undo()
    run_build(data, out, changes=Changes(prune=True))
    (tmp_path / "twin" / "real" / "v01.mp4").unlink()
    make_videos(tmp_path / "twin", ["real/new.mp4"])
    run_build(tmp_path / "twin", tmp_path / "t", changes=Changes(prune=True))
    assert tree(out) == tree(tmp_path / "t")


def test_a_damaged_shard_is_not_copied(built):
    data, out = built
    shard = out / shard_names(out)[0]
    gone = next(row["source"] for row in read_rows(out) if row["shard"] == shard.name)
    (data / gone).unlink()
    content = bytearray(shard.read_bytes())
    content[700] ^= 1
    shard.write_bytes(content)
    with pytest.raises(FormatError, match="verify --repair"):
        run_build(data, out, changes=Changes(prune=True))


def test_a_manifest_that_names_missing_or_relabelled_videos(tmp_path, caplog):
    data, manifest = make_videos(tmp_path / "data", video_names(6)), tmp_path / "m.csv"
    names = sorted(path.relative_to(data).as_posix() for path in data.rglob("*.mp4"))
    manifest.write_text("path,class\n" + "".join(f"{name},{name[:4]}\n" for name in names))
    run_build(data, tmp_path / "s", manifest=manifest)
    before = members(tmp_path / "s")
    (data / names[0]).unlink()
    manifest.write_text(manifest.read_text().replace(f"{names[1]},fake", f"{names[1]},real"))
    run_build(data, tmp_path / "s", manifest=manifest, changes=Changes(rebuild_changed=True))
    assert any(note.startswith("gone since") and names[0] in note for note in caplog.messages)
    rows = {row["source"]: row for row in read_rows(tmp_path / "s")}
    assert rows[names[0]]["status"] == "ok" and rows[names[1]]["class"] == "real"
    kept = {key for key in before if key != rows[names[1]]["key"]}
    after = members(tmp_path / "s")
    assert {key: before[key] for key in kept} == {key: after[key] for key in kept}
    run_build(data, tmp_path / "s", manifest=manifest, changes=Changes(prune=True))
    assert {row["source"]: row["status"] for row in read_rows(tmp_path / "s")}[names[0]] == "failed"


def test_failed_rows_go_when_the_manifest_is_fixed(tmp_path, caplog):
    """A path that was misspelled, one that led out of the folder, and one whose file has come since."""
    data, manifest = make_videos(tmp_path / "data", video_names(6)), tmp_path / "m.csv"
    (data / "real/v05.mp4").rename(tmp_path / "late.mp4")
    text = "path,class\n" + "".join(f"{name},{name[:4]}\n" for name in video_names(6))
    manifest.write_text(text.replace("real/v01", "real/vO1").replace("real/v03", "../data/real/v03"))
    assert run_build(data, tmp_path / "s", manifest=manifest).failed_inputs == 3
    before = tree(tmp_path / "s")
    assert run_build(data, tmp_path / "s", manifest=manifest).new_inputs == 0 and tree(tmp_path / "s") == before
    manifest.write_text(text)
    (tmp_path / "late.mp4").rename(data / "real/v05.mp4")
    report = run_build(data, tmp_path / "s", manifest=manifest)
    assert (report.ok_inputs, report.failed_inputs) == (6, 0)
    assert {row["source"]: row["status"] for row in read_rows(tmp_path / "s")} == dict.fromkeys(video_names(6), "ok")
    assert any(note.startswith("fixed since the last build: 3 rows that had failed") for note in caplog.messages)
    assert not any(note.startswith(("gone since", "changed since")) for note in caplog.messages)


def test_failed_rows_go_when_their_split_or_group_is_fixed(tmp_path, caplog):
    """z is missing, with another split; x and y would tear a group apart until one's group, one's split is fixed."""
    data, manifest, out = make_videos(tmp_path / "data", video_names(4)), tmp_path / "m.csv", tmp_path / "s"
    base = "path,class,split,group\n" + "".join(f"{name},{name[:4]},,{name[-5]}\n" for name in video_names(4))
    manifest.write_text(base)
    run_build(data, out, manifest=manifest)
    home = next(row["split"] for row in read_rows(out) if row["source"] == "fake/v00.mp4")
    other = "val" if home != "val" else "test"
    make_videos(data, ["real/x.mp4", "real/y.mp4"])
    rows = f"real/x.mp4,real,{other},0\nreal/y.mp4,real,{other},0\nreal/z.mp4,real,{other},\n"
    manifest.write_text(base + rows)
    assert run_build(data, out, manifest=manifest).failed_inputs == 3
    before = tree(out)
    assert run_build(data, out, manifest=manifest).new_inputs == 0
    assert tree(out) == before and not any(note.startswith("fixed") for note in caplog.messages)
    make_videos(data, ["real/z.mp4"])
    manifest.write_text(base + f"real/x.mp4,real,{other},new\nreal/y.mp4,real,,0\nreal/z.mp4,real,train,\n")
    assert run_build(data, out, manifest=manifest).failed_inputs == 0
    splits = {row["source"]: row["split"] for row in read_rows(out)}
    assert [splits[f"real/{name}.mp4"] for name in "xyz"] == [other, home, "train"]


def said_of(out):
    return {row["source"]: (row["split"], row["group"], row["kind"]) for row in read_rows(out)}


@pytest.mark.parametrize(
    ("split", "group", "kind"), [("test", "p1", "swap"), ("train", "p2", "swap"), ("train", "p1", "other")]
)
def test_a_changed_split_group_or_kind_is_noticed(tmp_path, caplog, split, group, kind):
    data, manifest, out = make_videos(tmp_path / "data", video_names(6)), tmp_path / "m.csv", tmp_path / "s"
    text = "path,class,split,group,kind\nreal/v01.mp4,real,train,p2,\nreal/v03.mp4,real,test,p3,\n"
    text += "real/v05.mp4,real,train,p1,\nfake/v04.mp4,fake,test,p4,swap\nfake/v02.mp4,fake,"
    manifest.write_text(f"{text}train,p1,swap\n")
    assert run_build(data, out, manifest=manifest).ok_inputs == 5
    if split == "test":  # where the rest of its group is now, too
        text = text.replace("real/v05.mp4,real,train,p1", "real/v05.mp4,real,train,p5")
    manifest.write_text(f"{text}{split},{group},{kind}\n")
    before = said_of(out)
    run_build(data, tmp_path / "s", manifest=manifest)
    (line,) = (note for note in caplog.messages if note.startswith("changed since the last build"))
    assert line.startswith(
        f"changed since the last build: {2 if split == 'test' else 1} videos, for example fake/v02.mp4"
    )
    assert before["fake/v02.mp4"][::2] == said_of(out)["fake/v02.mp4"][::2]  # split and kind are kept
    run_build(data, out, manifest=manifest, changes=Changes(rebuild_changed=True))
    now = said_of(out)
    assert now["fake/v02.mp4"][::2] == (split, kind)
    assert (now["fake/v02.mp4"][1] == now["real/v01.mp4"][1]) == (group == "p2")
    caplog.clear()
    run_build(data, out, manifest=manifest)
    assert not any("since the last build" in note for note in caplog.messages)


def test_groups_under_other_names_are_no_change(tmp_path, caplog):
    data, manifest, out = make_videos(tmp_path / "data", video_names(4)), tmp_path / "m.csv", tmp_path / "s"
    text = "path,class,group\n" + "".join(f"{name},{name[:4]},p{i // 2}\n" for i, name in enumerate(video_names(4)))
    manifest.write_text(text)
    run_build(data, out, manifest=manifest)
    manifest.write_text(text.replace(",p", ",person-"))
    run_build(data, out, manifest=manifest)
    assert not any("since the last build" in note for note in caplog.messages)


def test_a_folder_is_not_continued_with_other_classes(tmp_path):
    """As where an earlier release took the folders of FaceForensics++ for classes."""
    real, fake = (
        "original_sequences/youtube/c23/videos/000.mp4",
        "manipulated_sequences/FaceSwap/c23/videos/000_001.mp4",
    )
    data, out = make_videos(tmp_path / "data", [real, fake]), tmp_path / "s"
    request = BuildRequest(data, out, BuildSettings(**SMALL), layout="folders", workers=1)
    build(request)
    before = tree(out)
    with pytest.raises(
        UsageError, match="was built with the classes manipulated_sequences and original_sequences, and"
    ):
        build(replace(request, layout="auto"))
    build(request)
    assert tree(out) == before
