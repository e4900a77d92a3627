import contextlib
import csv
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import termios
from collections import Counter

import numpy as np
import pytest
from click.testing import CliRunner
from media import numbered_video
from PIL import Image

import shardify
from shardify.cli.main import main
from shardify.format.index import read_index, read_rows

FAST = ["--size", "16", "--frames", "4", "--workers", "2"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """real/ and fake/ with ten short videos each, and one file that is no video."""
    root = tmp_path_factory.mktemp("videos")
    for name, first in (("real", 6), ("fake", 16)):  # no two are the same bytes
        (root / name).mkdir()
        for i in range(10):
            numbered_video(root / name / f"{name}{i}.mp4", first + i, size=(32, 32))
    (root / "fake" / "broken.mp4").write_bytes(b"not a video" * 100)
    (root / "notes.txt").write_text("ignored")
    return root


@pytest.fixture(scope="module")
def shards(videos, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "shards"
    result = call("build", videos, out, *FAST)
    assert result.exit_code == 0, result.output
    return out, result.output


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_summary_accounts_for_every_input(shards):
    out, text = shards
    assert "21 inputs = 20 ok + 1 failed; 1 other files ignored" in text
    assert "not a video" in text
    assert "ignored 1 other files: .txt 1" in text
    assert f"next: python -m trainer --shards {out}" in text
    rows = read_rows(out)
    assert Counter(row["status"] for row in rows) == {"ok": 20, "failed": 1}
    tables = {"index.json", "samples.npy", "samples.csv", "README.md"}
    assert {p.name for p in out.iterdir()} == tables | {f"{s}-000000.tar" for s in ("train", "val", "test")}


def test_the_seeded_split_holds_every_class(shards):
    index = read_index(shards[0])
    assert index.splits() == ["train", "val", "test"]
    pairs = set(zip(index.samples["split"].tolist(), index.samples["label_class"].tolist(), strict=True))
    assert pairs == {(split, label) for split in range(3) for label in range(2)}


def test_building_again_changes_nothing(shards, videos):
    before = {path.name: path.read_bytes() for path in shards[0].iterdir()}
    result = call("build", videos, shards[0], *FAST)
    assert result.exit_code == 0 and "is complete: nothing new to build" in result.output
    assert {path.name: path.read_bytes() for path in shards[0].iterdir()} == before


def test_info(shards):
    found = json.loads(call("info", shards[0], "--json").output)
    assert found["clips"] == 20 and found["failed"] == 1
    assert sum(split["clips"] for split in found["splits"].values()) == 20
    assert found["bytes"] == sum(path.stat().st_size for path in shards[0].glob("*.tar"))
    text = call("info", shards[0]).output
    assert "20 clips of 4 frames, 16 px, jpeg" in text and "1 failed" in text


def test_preview_shows_clips_of_each_class(shards, tmp_path):
    result = call("preview", shards[0], "-o", tmp_path / "sheet.png", "--per-class", "2")
    assert result.output.strip() == f"{tmp_path / 'sheet.png'}: 4 clips"
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.size == (4 * 16, 4 * (16 + 28))
        assert np.asarray(picture.convert("L"))[28:44].std() > 20  # frames, not blank paper
    bad = call("preview", shards[0], "-o", tmp_path / "sheet.xyz")
    assert bad.exit_code == 1 and "end it in .jpg or .png" in bad.output


def test_preview_of_a_folder_as_kaggle_unpacks_it_is_the_same(shards, tmp_path):
    """In a folder that did not exist."""
    folder, out = shutil.copytree(shards[0], tmp_path / "s"), tmp_path / "new" / "sheet.png"
    assert call("preview", folder, "-o", out).exit_code == 0
    packed = out.read_bytes()
    for tar in folder.glob("*.tar"):
        shutil.unpack_archive(tar, tar.with_suffix(""))
        tar.unlink()
    out.unlink()
    result = call("preview", folder, "-o", out)
    assert result.exit_code == 0, result.output
    assert out.read_bytes() == packed
    victim = sorted(folder.glob("*/*.json"))[0]
    victim.write_text("{")
    result = call("preview", folder, "-o", out, "--per-class", "10")
    assert result.exit_code == 1 and f"clip {victim.stem} cannot be read" in result.output


def test_laid_out_splits_are_taken_as_they_are_and_carved_when_told(videos, tmp_path):
    data = tmp_path / "data"
    (data / "train").mkdir(parents=True)
    for name in ("real", "fake"):
        (data / "train" / name).symlink_to(videos / name)
    result = call("build", data, tmp_path / "a", *FAST)
    assert "val is missing" in result.output and "test is missing" in result.output
    assert read_index(tmp_path / "a").splits() == ["train"]
    result = call("build", data, tmp_path / "b", *FAST, "--val-fraction", "0.2")
    assert result.exit_code == 0, result.output
    assert read_index(tmp_path / "b").splits() == ["train", "val"]


def test_manifest_boxes_and_targets(videos, tmp_path):
    manifest, boxes = tmp_path / "m.csv", tmp_path / "b.csv"
    manifest.write_text("path,class,split,target\nreal/real9.mp4,calm,train,0.5\nfake/fake9.mp4,wild,test,7\n")
    boxes.write_text("path,x,y,width,height\nreal/real9.mp4,8,8,16,16\n")
    result = call("build", videos, tmp_path / "out", *FAST, "--manifest", manifest, "--boxes", boxes)
    assert result.exit_code == 0, result.output
    rows = {row["source"]: row for row in read_rows(tmp_path / "out")}
    assert rows["real/real9.mp4"]["target"] == "0.5" and rows["real/real9.mp4"]["class"] == "calm"
    assert rows["fake/fake9.mp4"]["status"] == "failed" and "boxes file" in rows["fake/fake9.mp4"]["error"]


def test_several_clips_of_a_video_share_group_and_split(videos, tmp_path):
    result = call("build", videos, tmp_path / "out", *FAST, "--clips", "3")
    assert result.exit_code == 0, result.output
    rows = [row for row in read_rows(tmp_path / "out") if row["status"] == "ok"]
    assert len(rows) == 60 and len({row["key"] for row in rows}) == 60
    per_source = Counter((row["source"], row["group"], row["split"]) for row in rows)
    assert set(per_source.values()) == {3}


def test_parts_say_how_far_all_of_them_are(videos, shards, tmp_path):
    planned, first, second, last = (
        call("build", videos, tmp_path / "out", *FAST, *part)
        for part in (["--plan-only"], ["--part", "1/2"], ["--part", "2/2"], [])
    )
    assert "planned: 3 shards of 21 videos" in planned.output
    assert "all parts: 1 of 3 shards are finished" in first.output and "next:" not in first.output
    assert "part 2/2: 2 shards, 0 of them finished before; " in second.output
    assert "next: the same command without --part" in second.output
    assert last.exit_code == 0 and "resuming: 3 of 3 shards are finished" in last.output
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        path.name: path.read_bytes() for path in shards[0].iterdir()
    }


def test_config_file_and_command_line(videos, tmp_path):
    config = tmp_path / "build.yaml"
    config.write_text("size: 24\nframes: 9\nshard-size: 5\n")
    result = call("build", videos, tmp_path / "out", "--config", config, "--frames", "4")
    assert result.exit_code == 0, result.output
    settings = read_index(tmp_path / "out").settings
    assert (settings["size"], settings["frames"], settings["shard_size"]) == (24, 4, 5)
    config.write_text("sise: 24\n")
    result = call("build", videos, tmp_path / "out2", "--config", config)
    assert result.exit_code == 2 and "did you mean size?" in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--size", "7"], 2, "--size is 7; it must be 8 to 1024"),
        (["--frames", "many"], 2, "'many' is not a valid integer"),
        (["--group-by", "("], 2, "no regular expression"),
        (["--config", "missing.yaml"], 2, "does not exist"),
        (["--part", "5/4"], 2, "--part is 5/4; write it as i/n"),
        (["--part", "1/4", "--prune"], 2, "--retry-failed, --prune and --rebuild-changed are for a whole build"),
        (["--scratch-gb", "inf"], 2, "Invalid value for '--scratch-gb': inf is no finite number"),
        (["--timeout", "nan"], 2, "Invalid value for '--timeout': nan is no finite number"),
        (["--part", "1/4", "--plan-only"], 2, "--dry-run, --plan-only, --part and --on exclude each other"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(videos, tmp_path, arguments, code, message):
    result = call("build", videos, tmp_path / "out", *arguments)
    assert result.exit_code == code and message in result.output
    assert "Traceback" not in result.output


def test_other_settings_on_the_same_folder_are_refused(videos, shards):
    result = call("build", videos, shards[0], *FAST[:2], "--frames", "5")
    assert result.exit_code == 2 and "frames 4 → 5" in result.output


def test_nothing_to_build(tmp_path, videos):
    (tmp_path / "empty").mkdir()
    assert call("build", tmp_path / "empty", tmp_path / "out").exit_code == 3
    assert call("build", tmp_path / "missing", tmp_path / "out").exit_code == 2
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "real").symlink_to(videos / "real")
    single = call("build", tmp_path / "one", tmp_path / "out", *FAST)
    assert single.exit_code == 2 and "only one class" in single.output


def test_a_folder_of_something_else_is_not_written_to(videos, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    result = call("build", videos, tmp_path, *FAST)
    assert result.exit_code == 2 and "thesis.tex" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_unusable_input_everywhere_fails_with_rows(tmp_path):
    for name in ("real", "fake"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "a.mp4").write_bytes(b"")
    result = call("build", tmp_path / "data", tmp_path / "out", *FAST)
    assert result.exit_code == 1 and "no video gave a clip" in result.output
    with (tmp_path / "out" / "samples.csv").open() as file:
        assert [row["error"] for row in csv.DictReader(file)] == ["the file is empty"] * 2


def test_strict_exits_1_when_an_input_fails(videos, tmp_path):
    result = call("build", videos, tmp_path / "out", *FAST, "--strict")
    assert result.exit_code == 1
    assert len(read_index(tmp_path / "out").samples) == 20


def test_info_on_an_unfinished_folder(tmp_path):
    result = call("info", tmp_path)
    assert result.exit_code == 1 and "the build is unfinished" in result.output


def test_off_a_terminal_progress_is_plain_lines(videos, tmp_path):
    command = [sys.executable, "-m", "shardify", "build", str(videos), str(tmp_path / "out"), *FAST]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "\r" not in done.stderr
    assert re.search(r"21/21 videos \(100%\), [\d.]+ clips/s, 1 failed, 00:00 left", done.stderr)


def read_terminal(descriptor):
    """All that is written to it until nobody has the other side, which Linux says with an error."""
    shown = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(descriptor, 4096):
            shown += chunk
    return shown.decode()


@pytest.mark.parametrize(("variable", "bars"), [("JPY_PARENT_PID", False), ("NOBODYS_PID", True)])
def test_in_a_notebook_progress_is_plain_lines(videos, tmp_path, variable, bars):
    """There `!` runs commands behind a pseudo-terminal and keeps all that they write to it."""
    environment = {name: value for name, value in os.environ.items() if name != "JPY_PARENT_PID"} | {variable: "1"}
    command = [sys.executable, "-m", "shardify", "build", str(videos), str(tmp_path / "out"), *FAST]
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (24, 80))  # on a terminal without columns a bar has no room
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=theirs):
        os.close(theirs)
        shown = read_terminal(ours)
    os.close(ours)
    assert ("%|" in shown) == bars and ("21/21 videos (100%)" in shown) != bars


def test_card_writes_what_the_build_wrote(shards, tmp_path):
    folder = shutil.copytree(shards[0], tmp_path / "s")
    built = (folder / "README.md").read_bytes()
    (folder / "README.md").unlink()
    result = call("card", folder)
    assert result.exit_code == 0 and result.output.strip() == str(folder / "README.md")
    assert (folder / "README.md").read_bytes() == built
    assert {path.name for path in folder.iterdir()} == {path.name for path in shards[0].iterdir()}
    assert call("card", tmp_path).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [(["build", "a", "b", "--qualty", "3"], "--quality"), (["kaggle", "a", "--licence", "x"], "--license")],
)
def test_unknown_options_suggest_the_nearest(arguments, nearest):
    result = call(*arguments)
    assert result.exit_code == 2 and f"Did you mean '{nearest}'?" in result.output


def test_version():
    assert call("--version").output == f"shardify, version {shardify.__version__}\n"


def test_the_list_of_commands_is_not_cut_off():
    lines = call("--help").output.split("Commands:\n")[1].splitlines()
    assert len(lines) == len(main.commands) and not any(line.endswith("...") for line in lines)


def test_help_answers_without_heavy_imports():
    code = "import sys, shardify.cli.main; sys.exit(bool({'torch', 'av', 'webdataset', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert call("--help").exit_code == 0 and "build" in call("--help").output
