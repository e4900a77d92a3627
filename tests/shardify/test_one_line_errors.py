"""What a user can mend is one line with an exit code; what is a mistake of ours keeps its traceback."""

from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

from shardify.errors import ShardifyError
from shardify.one_line_errors import failures_as_one_line
from shardify.storage.local import check_writable
from trainer.devices.memory import in_parts
from trainer.errors import Interrupted, SettingsError, TrainerError


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (TrainerError("a: is damaged"), 1, "error: a: is damaged"),
        (SettingsError("b is 1"), 2, "error: b is 1"),
        (Interrupted("time is over"), 75, "error: time is over"),
        (FileExistsError(17, "File exists", "c"), 1, "error: [Errno 17] File exists: 'c'"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (torch.OutOfMemoryError("CUDA out of memory.\nTried to"), 1, "error: out of memory (CUDA out of memory.); end "
         "what else uses the GPU, or pass --devices cpu"),
        (RuntimeError("CUDA error: out of memory"), 1, "error: out of memory (CUDA error: out of memory); end what "
         "else uses the GPU, or pass --devices cpu"),
        (BrokenPipeError(32, "Broken pipe"), 1, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)  # fmt: skip
def test_one_line_and_a_code(error, code, line):
    @click.command()
    def command():
        with failures_as_one_line():
            raise error

    result = CliRunner().invoke(command)
    assert (result.exit_code, result.stdout, result.stderr.strip()) == (code, "", line)


def test_our_own_mistakes_are_not_hidden():
    with pytest.raises(ZeroDivisionError), failures_as_one_line():
        raise ZeroDivisionError


@pytest.mark.parametrize(("least", "tried"), [(1, [1]), (2, [1, 2]), (5, [1, 2, 4, 6]), (9, [1, 2, 4, 6])])
def test_parts_become_more_until_they_fit(least, tried):
    asked = []

    def run(parts):
        asked.append(parts)
        if parts < least:
            raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
        return "done"

    if least > 6:
        with pytest.raises(RuntimeError, match="ALLOC_FAILED"):
            in_parts(run, 1, most=6)
    else:
        assert in_parts(run, 1, most=6) == "done"
    assert asked == tried
    with pytest.raises(RuntimeError, match="something else"):
        in_parts(lambda parts: (_ for _ in ()).throw(RuntimeError("something else")), 1, most=6)


def test_where_can_be_written(tmp_path):
    check_writable(tmp_path / "new" / "folder" / "a.csv")
    assert (tmp_path / "new" / "folder").is_dir() and not any((tmp_path / "new" / "folder").iterdir())
    (tmp_path / "file").write_text("kept")
    check_writable(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"
    for path, message in (
        (tmp_path / "file" / "a.csv", "cannot be written"),
        (tmp_path / "new", "is not a regular file"),
        (Path("/dev/null"), "is not a regular file"),
        (Path("/proc/new.csv"), "cannot be written"),
    ):
        with pytest.raises(ShardifyError, match=f"{path}: {message}.*; pass another name"):
            check_writable(path)
