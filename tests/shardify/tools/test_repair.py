import shutil
from pathlib import Path

import pytest
from builds import make_videos, run_build, tree, unpack, video_names
from click.testing import CliRunner
from version_1 import as_version_1

from shardify.build import build_shard
from shardify.cli.main import main
from shardify.errors import FormatError, UsageError
from shardify.format.index import read_rows
from shardify.tools.repair import repair_folder
from shardify.tools.verify import verify_folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Sixteen videos, and inputs that fail in two ways."""
    data = make_videos(tmp_path_factory.mktemp("data"), video_names(16))
    (data / "real" / "broken.mp4").write_bytes(b"no video")
    (data / "stray.mp4").touch()
    return data


@pytest.fixture(scope="module", params=["tars", "unpacked"])
def pristine(request, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("pristine") / "s"
    run_build(data, out)
    if request.param == "unpacked":
        unpack(out)
    return out


@pytest.fixture
def shards(pristine, tmp_path):
    return Path(shutil.copytree(pristine, tmp_path / "s"))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def flip(path, place=0.5):
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 4
    path.write_bytes(content)


def flip_shard(shards, stem):
    """One bit of a payload."""
    tar, folder = shards / f"{stem}.tar", shards / stem
    flip(tar if tar.exists() else sorted(folder.glob("*.jpg"))[0], 0.3)


def remove_shard(shards, stem):
    (shards / f"{stem}.tar").unlink(missing_ok=True)
    shutil.rmtree(shards / stem, ignore_errors=True)


def repair(data, shards, *options):
    return CliRunner().invoke(main, ["verify", "--repair", str(data), str(shards), *options])


def test_damaged_and_missing_shards(data, pristine, shards):
    flip_shard(shards, "train-000000")
    remove_shard(shards, "train-000002")
    val = shards / "val-000000.tar"
    if val.exists():
        val.write_bytes(val.read_bytes()[:3000])
    else:
        sorted((shards / "val-000000").iterdir())[1].unlink()
    untouched = {path: path.stat().st_mtime_ns for path in shards.rglob("test-000000*")}
    result = repair(data, shards)
    assert result.exit_code == 0, result.output
    assert contents(shards) == contents(pristine)
    assert {path: path.stat().st_mtime_ns for path in untouched} == untouched
    assert "test-000000" not in result.output


@pytest.mark.parametrize("names", [["samples.npy"], ["samples.csv"], ["README.md"], ["samples.npy", "samples.csv"]])
def test_damaged_tables(data, pristine, shards, names):
    for name in names:
        flip(shards / name)
    flip_shard(shards, "train-000001")
    result = repair(data, shards)
    assert result.exit_code == 0, result.output
    assert contents(shards) == contents(pristine)


@pytest.mark.parametrize("name", ["samples.npy", "README.md"])
def test_missing_tables(data, pristine, shards, name):
    (shards / name).unlink()
    assert repair(data, shards).exit_code == 0
    assert contents(shards) == contents(pristine)


def test_all_tables_of_a_folder_without_failures(tmp_path):
    data, out = make_videos(tmp_path / "data", video_names(8)), tmp_path / "s"
    run_build(data, out, clips=2, codec="raw")
    before = contents(out)
    for name in ("samples.npy", "samples.csv", "README.md"):
        (out / name).unlink()
    repair_folder(data, out)
    assert contents(out) == before


def test_a_table_with_cells_like_formulas(tmp_path):
    """Of a failed input, which stands nowhere else, and of a class."""
    data, out = make_videos(tmp_path / "data", [*video_names(4), "'=cmd/a.mp4", "=cmd/a.mp4"]), tmp_path / "s"
    (data / "=stray.mp4").touch()
    run_build(data, out)
    before = tree(out)
    flip(out / "samples.csv", 0.1)
    repair_folder(data, out)
    assert tree(out) == before


def test_a_folder_of_version_1_is_left_alone(tmp_path):
    data, out = make_videos(tmp_path / "data", video_names(4)), tmp_path / "s"
    run_build(data, out)
    before = tree(as_version_1(out))
    with pytest.raises(UsageError, match=r"is of format version 1, .* build into a new folder$"):
        repair_folder(data, out)
    assert tree(out) == before


def test_what_nothing_else_knows_is_said_and_nothing_is_written(data, shards):
    """The reason why an input failed stands in samples.csv only, the settings in index.json only."""
    table = shards / "samples.csv"
    sound = table.read_bytes()
    table.write_bytes(sound.replace(b"no class folder", b"no class f0lder"))
    before = contents(shards)
    result = repair(data, shards)
    assert result.exit_code == 1 and "2 failed inputs" in result.output
    table.write_bytes(sound)
    index = (shards / "index.json").read_bytes()
    (shards / "index.json").write_bytes(index.replace(b'"quality": 95', b'"quality": 94'))
    result = repair(data, shards)
    assert result.exit_code == 1 and "index.json: is damaged" in result.output
    assert contents(shards).keys() == before.keys()


def test_a_record_that_cannot_be_read_is_passed_over(data, shards):
    unpack(shards)
    next(shards.rglob("*/*.json")).write_text("[" * 100_000)
    (shards / "samples.csv").unlink()
    result = repair(data, shards)
    assert isinstance(result.exception, SystemExit) and result.exit_code == 1, result.exception


def test_clips_and_raw(data, tmp_path):
    run_build(data, tmp_path / "s", clips=2, codec="raw")
    before = tree(tmp_path / "s")
    flip(tmp_path / "s" / "train-000001.tar")
    repair_folder(data, tmp_path / "s")
    assert tree(tmp_path / "s") == before


def test_boxes_must_be_the_same(data, tmp_path):
    boxes, out = tmp_path / "boxes.csv", tmp_path / "s"
    boxes.write_text("path,x,y,width,height\n" + "".join(f"{name},4,4,16,16\n" for name in video_names(16)))
    assert (
        CliRunner().invoke(main, ["build", str(data), str(out), "--size", "32", "--boxes", str(boxes)]).exit_code == 0
    )
    before = tree(out)
    flip(out / "train-000000.tar", 0.3)
    with pytest.raises(UsageError, match="--boxes"):
        repair_folder(data, out)
    assert repair(data, out, "--boxes", str(boxes)).exit_code == 0
    assert tree(out) == before


def test_never_replaced_by_something_else(tmp_path, monkeypatch, caplog):
    data, out = make_videos(tmp_path / "data", video_names(8)), tmp_path / "s"
    run_build(data, out)
    row = next(row for row in read_rows(out) if row["shard"] == "train-000000.tar")
    sound = (data / row["source"]).read_bytes()
    flip(out / "train-000000.tar", 0.2)
    before = tree(out)
    make_videos(tmp_path / "other", ["real/another.mp4"])
    shutil.copy(tmp_path / "other" / "real" / "another.mp4", data / row["source"])
    repair_folder(data, out)
    assert "--rebuild-changed" in caplog.messages[-1] and tree(out) == before
    (data / row["source"]).unlink()
    repair_folder(data, out)
    assert row["source"] in caplog.messages[-1] and tree(out) == before
    (data / row["source"]).write_bytes(sound)
    from shardify.tools import repair as repair_module

    monkeypatch.setattr(
        repair_module, "library_versions", lambda has_faces: {**build_shard.library_versions(has_faces), "av": "0"}
    )
    flip(data / row["source"])
    repair_folder(data, out)
    assert "made with other versions (av" in caplog.messages[-1] and tree(out) == before


def test_what_is_not_ours_stays(data, shards):
    strange = shards / "train-000009.tar"
    strange.touch()
    repair_folder(data, shards)
    assert [damage.file for damage in verify_folder(shards, 1)] == [strange.name]


def test_a_folder_that_is_being_built_is_left_alone(data, shards):
    import fcntl
    import os

    descriptor = os.open(shards, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    flip_shard(shards, "train-000000")
    assert repair(data, shards).exit_code == 4
    os.close(descriptor)


def test_unfinished_folders_are_refused(data, tmp_path):
    with pytest.raises(FormatError, match="unfinished"):
        repair_folder(data, tmp_path)


def test_a_folder_that_is_none_of_ours_is_left_alone(data, tmp_path):
    """As when the two folders are swapped, or mistyped."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".notes.tmp").write_text("mine")
    with pytest.raises(FormatError):
        repair_folder(data, tmp_path / "mine")
    assert tree(tmp_path / "mine").keys() == {".notes.tmp"}
    with pytest.raises(FormatError, match="does not exist"):
        repair_folder(data, tmp_path / "typo")
    assert not (tmp_path / "typo").exists()
