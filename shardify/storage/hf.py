"""Data sets of the Hugging Face Hub, hf://datasets/OWNER/NAME[@REVISION][/FOLDER]: whole files.

Parts of files are not asked for: the Hub limits how often it answers. Every function raises StorageError with the
address, the cause and what to do: MissingObjectError where there is no such file.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, TypeVar

from shardify.errors import MissingObjectError, StorageError, UsageError
from shardify.storage import local
from shardify.storage.address import Address
from shardify.storage.attempts import TryAgain, attempt
from shardify.storage.base import RemoteFile

T = TypeVar("T")

PASSING = (408, 425, 429)  # HTTP codes below 500 of failures that pass


class _File(NamedTuple):
    """What an address names, as the Hub calls it."""

    repo: str
    revision: str | None
    path: str


def pinned(address: Address) -> Address:
    """The address with the commit that its revision, or the newest one, is now."""
    file = _parse(address)
    commit = _bounded(address, lambda hub: hub.HfApi().dataset_info(file.repo, revision=file.revision).sha)
    return Address(f"hf://datasets/{file.repo}@{commit}/{file.path}")


def list_files(folder: Address) -> list[RemoteFile]:
    """All files below a folder, sorted by their names, which are relative to it."""
    file = _parse(folder)

    def ask(hub: ModuleType) -> list[RemoteFile]:
        tree = hub.HfApi().list_repo_tree(
            file.repo, file.path or None, recursive=True, revision=file.revision, repo_type="dataset"
        )
        start = f"{file.path}/" if file.path else ""
        files = [entry for entry in tree if isinstance(entry, hub.hf_api.RepoFile)]
        return [RemoteFile(entry.path.removeprefix(start), entry.size, entry.blob_id) for entry in files]

    return sorted(_bounded(folder, ask), key=lambda found: found.name)


@contextlib.contextmanager
def open_reader(address: Address, file: RemoteFile | None = None) -> Iterator[local.LocalReader]:
    """The file, copied to this machine for as long as it is open."""
    with _copied(address) as path, local.open_reader(path) as reader:
        yield reader


def read_bytes(address: Address) -> bytes:
    """The whole file."""
    with _copied(address) as path:
        return path.read_bytes()


def download(address: Address, path: Path, file: RemoteFile | None = None) -> None:
    """Copy a file to this machine, whole or not at all. file: what is meant, where that is known.

    Raises OSError, of a full disk for one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _copied(address, path.parent) as copy:
        if file and (found := copy.stat().st_size) != file.size:
            raise StorageError(f"{address}: has {found} bytes instead of {file.size}; upload the folder again")
        local.rename(copy, path)


@contextlib.contextmanager
def _copied(address: Address, beside: Path | None = None) -> Iterator[Path]:
    file = _parse(address)
    with tempfile.TemporaryDirectory(prefix=".", suffix=".tmp", dir=beside) as folder:

        def ask(hub: ModuleType) -> str:
            hub.utils.disable_progress_bars()
            return hub.hf_hub_download(
                file.repo, file.path, repo_type="dataset", revision=file.revision, local_dir=folder
            )

        yield Path(_bounded(address, ask))


def _parse(address: Address) -> _File:
    if address.bucket != "datasets" or len(address.parts) < 4:
        raise UsageError(f"{address}: write hf://datasets/OWNER/NAME, or hf://datasets/OWNER/NAME@REVISION")
    owner, named, *path = address.parts[2:]
    name, _, revision = named.partition("@")
    return _File(f"{owner}/{name}", revision or None, "/".join(path))


def _bounded(address: Address, ask: Callable[[ModuleType], T]) -> T:
    """What `ask` returns of huggingface_hub, within our bounds."""
    try:
        import huggingface_hub
        import huggingface_hub.hf_api
        from huggingface_hub.errors import HTTPError  # of the library by which it speaks to the Hub
    except ModuleNotFoundError as error:
        text = f'{address}: is read with huggingface_hub, which is not here; pip install "shardify[remote]"'
        raise UsageError(text) from error

    def judged() -> T:
        try:
            return ask(huggingface_hub)
        except (HTTPError, OSError, ValueError, RuntimeError) as error:
            raise _meaning(address, error) from error

    return attempt(address, judged)


def _meaning(address: Address, error: Exception) -> TryAgain | StorageError:
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # it has looked for a copy here after that
    missing = (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError)
    response = getattr(error, "response", None)
    code = getattr(response, "status_code", 0)
    if isinstance(error, errors.GatedRepoError) or code == 403:
        return StorageError(f"{address}: access is refused; accept its conditions on its page, and set HF_TOKEN")
    if isinstance(error, missing) or code in (401, 404):
        return MissingObjectError(f"{address}: is not there, or not for you; check the address, and set HF_TOKEN")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return StorageError(f"{address}: HF_HUB_OFFLINE is set; unset it, or pass a folder of this machine")
    if isinstance(error, (ValueError, RuntimeError)) or (code and code < 500 and code not in PASSING):
        answer = f"the Hub answers HTTP {code}" if code else " ".join(str(error).split())
        return StorageError(f"{address}: {answer}; check the address")
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return StorageError(f"{address}: cannot be kept on this machine ({error}); make room, or pass another folder")
    after = response.headers.get("retry-after", "") if response is not None else ""
    return TryAgain(f"HTTP {code}" if code else type(error).__name__, float(after) if after.isdigit() else 0.0)
