"""Kaggle's own client against a stand-in for its service; nothing leaves this machine."""

import errno
import json
import os
import shutil
import tempfile

import pytest
from builds import make_videos, run_build, video_names
from click.testing import CliRunner
from kaggle_standin import StandIn

from shardify.cli.main import main
from shardify.kaggle import upload
from shardify.kaggle.credentials import find_credentials
from shardify.kaggle.stage import STATE

NAMED = ("--id", "somebody/small-shards", "--title", "Small shards")
REF = "somebody/small-shards"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    data = make_videos(tmp_path_factory.mktemp("data"), video_names(16))
    out = tmp_path_factory.mktemp("made") / "shards"
    run_build(data, out)
    return out


@pytest.fixture
def shards(made, tmp_path):
    return shutil.copytree(made, tmp_path / "shards")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home without credentials, and none in the environment."""
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def kaggle(home, tmp_path, monkeypatch):
    """The stand-in, to which the client talks in place of the real service."""
    pytest.importorskip("kagglesdk", reason="pip install '.[kaggle]'")
    from kagglesdk import kaggle_env

    standin = StandIn()
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, standin.url)
    monkeypatch.setenv("KAGGLE_USERNAME", "somebody")
    monkeypatch.setenv("KAGGLE_KEY", "not-a-real-key")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where the client keeps what it has sent
    monkeypatch.setattr(upload, "POLL_SECONDS", (0.01, 0.01))
    yield standin
    standin.close()


def call(*arguments):
    return CliRunner().invoke(main, ["kaggle", *map(str, arguments)])


def test_without_upload_everything_is_ready_and_nothing_is_sent(shards, kaggle):
    result = call(shards, *NAMED, "--license", "CC-BY-4.0")
    assert result.exit_code == 0, result.output
    staging = shards.with_name("shards-kaggle")
    assert f"kaggle datasets create -p {staging}" in result.output
    assert json.loads((staging / "dataset-metadata.json").read_text()) == {
        "title": "Small shards", "id": REF, "licenses": [{"name": "CC-BY-4.0"}],
    }  # fmt: skip
    sent = {path.name for path in staging.iterdir()} - {"dataset-metadata.json"}
    assert sent == {path.name for path in shards.iterdir() if not path.name.startswith(".")}
    assert all((staging / name).samefile(shards / name) for name in sent)
    assert f"{len(sent)} files to send" in result.output and f"after unpacking: {3 * 16 + 4} files" in result.output
    assert not kaggle.calls


@pytest.mark.parametrize(("typed", "named"), [("cc0-1.0", "CC0-1.0"), ("Apache-2.0", "apache-2.0")])
def test_names_are_written_as_kaggle_does(shards, typed, named):
    result = call(shards, "--id", "Somebody/Small-Shards", "--title", "Small shards", "--license", typed)
    assert result.exit_code == 0 and f"lower case: {REF}" in result.stderr
    assert f"kaggle datasets status {REF}" in result.stdout
    metadata = json.loads((shards.with_name("shards-kaggle") / "dataset-metadata.json").read_text())
    assert (metadata["id"], metadata["licenses"]) == (REF, [{"name": named}])


def test_licenses_are_completed_by_the_shell():
    words = {"_SHARDIFY_COMPLETE": "bash_complete", "COMP_WORDS": "shardify kaggle s --license gpl", "COMP_CWORD": "4"}
    done = CliRunner().invoke(main, [], env=words, prog_name="shardify")
    assert done.output.lower().split() == ["plain,gpl-2.0", "plain,gpl-3.0"]


@pytest.mark.parametrize("credential", ["KAGGLE_USERNAME", "KAGGLE_API_TOKEN"])
def test_a_service_that_cannot_be_reached_is_one_line_at_once(shards, kaggle, monkeypatch, credential):
    """The client's own retries take minutes and print hundreds of characters each."""
    monkeypatch.setenv(credential, "somebody")
    kaggle.close()
    _, *lines = call(shards, *NAMED, "--upload").stderr.splitlines()
    reason = "127.0.0.1 cannot be reached ([Errno 111] Connection refused)"
    assert lines == [f"error: {reason}; run the same command again to resume"]


def test_upload_waits_and_compares_every_page(shards, kaggle):
    kaggle.statuses = ["BLOBS_RECEIVED", "BLOBS_DECOMPRESSED"]
    result = call(shards, *NAMED, "--upload")
    assert result.exit_code == 0, result.output
    assert "ready and complete; in a notebook: python -m trainer --shards somebody/small-shards" in result.output
    assert "(blobs_decompressed)" in result.output
    assert kaggle.calls["ListDatasetFiles"] == 2  # 52 files, 40 a page
    (body,) = kaggle.created
    assert "kaggle datasets" not in result.output  # there is nothing left to type
    assert (body["title"], body["licenseName"], body["isPrivate"]) == ("Small shards", "unknown", True)
    (files,) = kaggle.datasets[REF]
    assert {name: len(files[name]) for name in files if "/" not in name} == {
        name: (shards / name).stat().st_size for name in ("index.json", "samples.npy", "samples.csv", "README.md")
    }
    assert sum("/" in name for name in files) == 48


def test_a_dataset_whose_tars_stay_tars_is_complete_too(shards, kaggle):
    kaggle.unpacks = False
    assert call(shards, *NAMED, "--upload").exit_code == 0


@pytest.mark.parametrize("name", ["samples.npy", "train-000000.tar"])
def test_a_file_that_cannot_be_sent_makes_no_dataset_and_the_next_run_goes_on(shards, kaggle, name):
    kaggle.refused = {name}
    result = call(shards, *NAMED, "--upload")
    assert result.exit_code == 1 and "run the same command again to resume" in result.output
    assert not kaggle.datasets and "Traceback" not in result.output
    kaggle.refused, before = set(), dict(kaggle.received)
    assert call(shards, *NAMED, "--upload").exit_code == 0
    again = {file for file, count in kaggle.received.items() if count != before.get(file, 0)}
    assert name in again
    assert all((shards / file).stat().st_size == kaggle.received[file] for file in before.keys() - again)
    assert len(kaggle.datasets[REF]) == 1


def test_a_cut_upload_goes_on_at_the_byte_where_it_stopped(shards, kaggle):
    size = (shards / "train-000000.tar").stat().st_size
    kaggle.cut = {"train-000000.tar": 5000}
    result = call(shards, *NAMED, "--upload")
    assert result.exit_code == 0, result.output
    assert "resuming train-000000.tar" in result.output
    assert kaggle.received["train-000000.tar"] == size + (size - 5000)


def test_what_did_not_arrive_is_named_and_a_new_version_mends_it(shards, kaggle):
    (lost,) = {path.name for path in shards.glob("*.csv")}
    kaggle.lost = {lost}
    result = call(shards, *NAMED, "--upload")
    assert result.exit_code == 1 and f"{lost}: is missing" in result.output and "--new-version" in result.output
    again = call(shards, *NAMED, "--upload")
    assert again.exit_code == 1 and f"{lost}: is missing" in again.output and len(kaggle.created) == 1
    kaggle.lost, kaggle.lag = set(), 3
    assert call(shards, *NAMED, "--new-version", "with its table").exit_code == 0
    assert kaggle.lag <= 0  # the version before was not taken for the new one
    assert len(kaggle.datasets[REF]) == 2 and kaggle.created[1]["versionNotes"] == "with its table"


def test_repeating_a_finished_upload_sends_nothing(shards, kaggle):
    assert call(shards, *NAMED, "--upload").exit_code == 0
    received = dict(kaggle.received)
    for again in (("--upload",), ("--new-version", "the same")):
        result = call(shards, *NAMED, *again)
        assert result.exit_code == 0 and "was sent already" in result.output
    assert dict(kaggle.received) == received and len(kaggle.datasets[REF]) == 1
    for damaged in ("[" * 100_000, "5", "[]", '{"dataset": 1}'):  # the note of what was sent: it is not believed
        (shards.with_name("shards-kaggle") / STATE / "sent.json").write_text(damaged)
        assert "exists with other content" in call(shards, *NAMED, "--upload").output


def test_failed_processing_and_a_missing_dataset_are_said(shards, kaggle):
    missing = call(shards, *NAMED, "--new-version", "more")
    assert missing.exit_code == 2 and "does not exist, or is not yours" in missing.output
    kaggle.statuses = ["FAILED"]
    failed = call(shards, *NAMED, "--upload")
    assert failed.exit_code == 1 and "could not process it" in failed.output and "--new-version" in failed.output
    assert call(shards, *NAMED, "--new-version", "again").exit_code == 0 and len(kaggle.created) == 2


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (401, 2, "Kaggle refuses the credentials in KAGGLE_USERNAME and KAGGLE_KEY"),
        (403, 2, "is the owner in --id your user name there?"),
        (500, 1, "run the same command again to resume"),
    ],
)
def test_refusals_of_the_service_are_one_line(shards, kaggle, status, code, message):
    kaggle.answers["CreateDataset"] = (status, {"code": status, "message": "no"})
    result = call(shards, *NAMED, "--upload")
    assert result.exit_code == code and message in result.output.splitlines()[-1]
    assert "not-a-real-key" not in result.output


def test_a_token_that_kaggle_does_not_know_is_refused_and_a_good_one_will_do(shards, kaggle, monkeypatch):
    monkeypatch.delenv("KAGGLE_KEY")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "not-a-real-token")
    result = call(shards, *NAMED, "--upload")
    assert result.exit_code == 2 and "refuses the credentials in KAGGLE_API_TOKEN" in result.output
    kaggle.answers["IntrospectToken"] = (200, {"active": True, "username": "somebody"})
    result = call(shards, *NAMED, "--upload")
    assert result.exit_code == 0 and "not-a-real-token" not in result.output, result.output


def test_what_kaggle_says_against_a_dataset_is_shown(shards, kaggle):
    kaggle.answers["CreateDataset"] = (200, {"status": "error", "error": "The title is in use"})
    result = call(shards, *NAMED, "--upload")
    assert result.exit_code == 1 and "Kaggle says: The title is in use" in result.output


def test_without_credentials_the_ways_to_give_them_are_shown(shards, home):
    result = call(shards, *NAMED, "--upload")
    assert result.exit_code == 2 and result.output.splitlines()[-1].startswith("error: no credentials for Kaggle")
    assert all(f"  {way}" in result.output for way in ("1. a token", "2. the", "3. the", "or sign in"))


@pytest.mark.parametrize("path", [".kaggle/access_token", ".kaggle/kaggle.json", ".config/kaggle/kaggle.json"])
def test_credentials_in_a_file_are_found_and_not_shown(home, path):
    (home / path).parent.mkdir(parents=True)
    (home / path).write_text('{"username": "somebody", "key": "secret"}')
    assert find_credentials() == str(home / path)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--title", "short", "--title has 5 characters (short); Kaggle takes 6 to 50"),
        ("--title", "x" * 51, "--title has 51 characters"),
        ("--id", "small-shards", "must be owner/slug"),
        ("--id", "me/small_shards", "must be owner/slug"),
        ("--id", "me/small", "the slug of --id has 5 characters"),
        ("--license", "MIT", "'MIT' is not one of"),
        ("--new-version", " ", "--new-version is empty"),
    ],
)
def test_what_kaggle_would_refuse_is_refused_here(shards, option, value, message):
    arguments = dict(zip(NAMED[::2], NAMED[1::2], strict=True)) | {option: value}
    result = call(shards, *[text for pair in arguments.items() for text in pair])
    assert result.exit_code == 2 and message in result.output
    assert not shards.with_name("shards-kaggle").exists()


def test_a_damaged_or_unpacked_folder_is_not_sent(shards):
    tar = next(shards.glob("train-*.tar"))
    whole = tar.read_bytes()
    tar.write_bytes(whole[:-2000] + b"x" + whole[-1999:])
    damaged = call(shards, *NAMED)
    assert damaged.exit_code == 1 and tar.name in damaged.output and "nothing is sent" in damaged.output
    tar.write_bytes(whole)
    shutil.unpack_archive(tar, tar.with_suffix(""))
    tar.unlink()
    unpacked = call(shards, *NAMED)
    assert unpacked.exit_code == 1 and "send the folder that `shardify build` made" in unpacked.output


def test_what_is_no_finished_folder_says_so_itself(shards, tmp_path):
    (shards / "index.json").unlink()
    for folder in (shards, tmp_path / "nowhere"):
        (line,) = call(folder, *NAMED).stderr.splitlines()
        assert line.startswith(f"error: {folder}: ") and line.count(str(folder)) == 1 and "damaged" not in line


def test_a_folder_of_something_else_where_files_are_gathered_is_left_alone(shards):
    thesis = shards.with_name("shards-kaggle") / "thesis.tex"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    result = call(shards, *NAMED)
    assert result.exit_code == 2 and "is in the way" in result.output
    assert thesis.exists()


def test_where_the_disk_has_no_hard_links_copies_keep_the_times(shards, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert call(shards, *NAMED).exit_code == 0
    staging = shards.with_name("shards-kaggle")
    copies = {path.name: path.stat() for path in staging.glob("*.tar")}
    assert len(copies) > 2
    for name, copy in copies.items():
        assert (staging / name).read_bytes() == (shards / name).read_bytes()
        assert copy.st_mtime_ns == (shards / name).stat().st_mtime_ns
    assert call(shards, *NAMED).exit_code == 0
    assert all((staging / name).stat().st_ino == copy.st_ino for name, copy in copies.items())


def test_the_gathered_files_follow_the_folder(shards):
    staging = shards.with_name("shards-kaggle")
    assert call(shards, *NAMED).exit_code == 0
    (staging / "test-000009.tar").write_bytes(b"left over from a larger build")
    assert CliRunner().invoke(main, ["card", str(shards)]).exit_code == 0  # a new file of the same name
    assert not (staging / "README.md").samefile(shards / "README.md")
    assert call(shards, *NAMED).exit_code == 0
    assert (staging / "README.md").samefile(shards / "README.md") and not (staging / "test-000009.tar").exists()
