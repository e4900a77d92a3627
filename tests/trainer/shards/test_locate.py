"""Every name that people give to shards leads to them, or to a line that says where was looked."""

import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from trainer.errors import FormatError
from trainer.shards.locate import MAX_NAMES, expand_braces, find_shards


@pytest.fixture
def kaggle(tmp_path):
    ann = "datasets/ann"
    for folder in (f"{ann}/clips", "old-clips", f"{ann}/wrapped/shards", f"{ann}/two/a", f"{ann}/two/b"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "index.json").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("ann/clips", "datasets/ann/clips"),
        ("ann/old-clips", "old-clips"),
        ("ann/wrapped", "datasets/ann/wrapped/shards"),
        ("Ann/Clips", "datasets/ann/clips"),
        ("https://www.kaggle.com/datasets/ann/clips/data?select=train-000000.tar", "datasets/ann/clips"),
        (Path("https://kaggle.com/datasets/ann/clips"), "datasets/ann/clips"),
    ],
)
def test_kaggle_data_sets(kaggle, name, folder):
    assert find_shards(name, kaggle) == (kaggle / folder, None)


def test_by_the_name_alone(kaggle):
    assert find_shards("clips", kaggle) == (kaggle / "datasets/ann/clips", None)
    assert find_shards("old-clips", kaggle) == (kaggle / "old-clips", None)
    (kaggle / "datasets/bob/clips").mkdir(parents=True)
    with pytest.raises(FormatError, match="name one with its owner: ann/clips, bob/clips"):
        find_shards("clips", kaggle)


def test_the_input_tree_is_not_walked(kaggle):
    """Folders that are listed, by the interpreter's own audit: walking the whole of /kaggle/input took minutes."""
    for depth in ("datasets/ann/clips/a/b", "datasets/ann/other/a/b", "datasets/bob/huge/a/b", "old-clips/a/b"):
        (kaggle / depth).mkdir(parents=True, exist_ok=True)
    code = f"""
import sys
import tracemalloc
from pathlib import Path
from trainer.shards.locate import find_shards
listed = []
sys.addaudithook(lambda event, found: listed.append(str(found[0])) if event in ("os.scandir", "os.listdir") else None)
for name in ("ann/clips", "clips", "old-clips"):
    find_shards(name, Path({str(kaggle)!r}))
print(*listed, sep=chr(10))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    listed = {Path(line).relative_to(kaggle).as_posix() for line in done.stdout.splitlines()}
    assert "datasets" in listed
    assert listed <= {".", "datasets", "datasets/ann", "datasets/bob"}


def test_several_folders_inside_one(kaggle):
    with pytest.raises(FormatError, match=r"holds several shards folders \(a, b\); name one"):
        find_shards("ann/two", kaggle)


def test_only_the_first_levels_are_looked_at(kaggle, monkeypatch):
    """Walking the whole of /kaggle/input took minutes."""
    deep = kaggle / "datasets/ann/deep"
    for inside, found in (("a/b/c", deep), ("a/b", deep / "a/b")):  # uploads are wrapped once or twice
        (deep / inside).mkdir(parents=True, exist_ok=True)
        (deep / inside / "index.json").touch()
        assert find_shards("ann/deep", kaggle) == (found, None)


def test_nowhere(kaggle):
    with pytest.raises(FormatError) as caught:
        find_shards("ann/none", kaggle)
    for place in ("ann/none", kaggle / "datasets/ann/none", kaggle / "none"):
        assert str(place) in str(caught.value)


def test_tars(tmp_path):
    tars = [tmp_path / f"train-{number:03d}.tar" for number in range(12)]
    for path in tars:
        path.touch()
    assert find_shards(tars[3]) == (tmp_path, [tars[3]])
    assert find_shards(f"{tmp_path}/train-*.tar") == (tmp_path, tars)
    assert find_shards(f"{tmp_path}/train-{{009..011}}.tar") == (tmp_path, tars[9:])
    assert find_shards(tmp_path) == (tmp_path, tars)
    with pytest.raises(FormatError, match=r"train-012\.tar: is not a file"):
        find_shards(f"{tmp_path}/train-{{010..012}}.tar")
    with pytest.raises(FormatError, match="no file fits"):
        find_shards(f"{tmp_path}/val-*.tar")


def test_tars_by_the_names_that_other_systems_give(tmp_path):
    """macOS leaves a file of its own beside each; Windows does not mind capitals."""
    for name in ("._train-000.tar", "._train-000.tar.gz", "train-000.tar", "val-000.TAR"):
        (tmp_path / name).touch()
    assert find_shards(tmp_path) == (tmp_path, [tmp_path / "train-000.tar", tmp_path / "val-000.TAR"])


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a", ["a"]),
        ("a{8..10}", ["a8", "a9", "a10"]),
        ("a{08..10}b", ["a08b", "a09b", "a10b"]),
        ("{a,b}-{0..1}", ["a-0", "a-1", "b-0", "b-1"]),
        ("{a,{b,c}}", ["a", "b", "a", "c"]),
    ],
)
def test_braces(text, names):
    assert expand_braces(text) == names


@pytest.mark.parametrize(
    ("text", "message"),
    [("{3..1}", "count upwards"), (f"{{0..{MAX_NAMES}}}", "count upwards"), ("{0..9}" * 6, "more than")],
)
def test_braces_that_stand_for_too_much(text, message):
    with pytest.raises(FormatError, match=f"{message}.* {MAX_NAMES} names"):
        expand_braces(text)


def test_braces_of_braces_are_bounded_before_they_are_written_out():
    """Two ranges that are allowed by themselves stand for a hundred million names."""
    tracemalloc.start()
    with pytest.raises(FormatError, match=f"stands for more than {MAX_NAMES} names"):
        expand_braces("{1..9999}{1..9999}")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
