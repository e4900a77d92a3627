import os

import pytest

from shardify.storage import local


def test_files_are_written_listed_and_read_in_parts(tmp_path):
    local.write_atomically(tmp_path / "new" / "b", b"0123")
    local.write_atomically(tmp_path / "new" / "a", b"1")
    local.write_atomically(tmp_path / "new" / "a", b"2")
    assert local.list_names(tmp_path / "new") == ["a", "b"]
    assert (tmp_path / "new" / "a").read_bytes() == b"2"
    with local.open_reader(tmp_path / "new" / "b") as reader:
        assert (reader.size, reader.read(1, 2), reader.read(3, 9)) == (4, b"12", b"3")


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch, function):
    path = tmp_path / "a"
    local.write_atomically(path, b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="No space left"):
        local.write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a"]


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with local.open_reader(tmp_path / "pipe") as reader:
        assert reader.size == 0


def test_an_interrupt_in_the_middle_of_writing_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(local.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        local.write_atomically(tmp_path / "a", b"x")
    assert list(tmp_path.iterdir()) == []
