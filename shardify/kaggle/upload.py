"""The upload of a staged folder with Kaggle's own client: sent, waited for, and compared with what has arrived."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import logging
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from shardify.errors import ShardifyError, UsageError
from shardify.format.index import json_bytes
from shardify.kaggle.credentials import WAYS, find_credentials
from shardify.kaggle.stage import STATE, Staged
from shardify.storage.local import write_atomically

CLIENT = (2, 1, 1)  # the first that says which version of a dataset is ready
POLL_SECONDS = (2.0, 30.0)  # between looks at the dataset's status: at first, and at most
READY_SECONDS = 2 * 3600.0  # after which waiting is left to the next run
PAGE_SIZE = 200  # the most that Kaggle lists at a time
PAGES_A_LINE = 50
SHOWN = 10  # differences

logger = logging.getLogger(__name__)


def upload(staged: Staged, message: str | None) -> None:
    """Create the dataset, or with `message` a new version of it, and see that all of it arrived.

    Repeated after a failure it resumes: files that Kaggle has are not sent again, and what was sent already is
    only waited for and compared. Raises ShardifyError.
    """
    source = find_credentials()
    if source is None:
        for line in WAYS.splitlines():
            logger.info(line)
        raise UsageError("no credentials for Kaggle were found; give them in one of these ways and try again")
    note = staged.folder / STATE / "sent.json"
    with _one_line(staged.dataset, source):
        client = _connect(staged)
        number = _send(client, staged, message, note)
        if _wait(client, staged.dataset, number):
            problems = compare(_remote_files(client, staged.dataset), staged)
        else:
            problems = [f"Kaggle could not process it; see https://www.kaggle.com/datasets/{staged.dataset}"]
    if problems:
        note.unlink(missing_ok=True)  # or the next run would take it for sent
        more = [f"…and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        for line in [*problems[:SHOWN], *more]:
            logger.info(f"  {line}")
        raise ShardifyError(f'{staged.dataset}: differs from what lies here; send that as --new-version "MESSAGE"')
    logger.info(f"{staged.dataset}: ready and complete; in a notebook: python -m trainer --shards {staged.dataset}")


def _send(client, staged: Staged, message: str | None, note: Path) -> int:
    """Send what Kaggle does not have; the version to wait for, 0 where any will do."""
    dataset, folder = staged.dataset, str(staged.folder)
    newest = _look(client.dataset_status, dataset)[1]  # at once: without a network all retries take minutes
    is_there = newest is not None
    sent = _sent_before(note, staged) if is_there else None
    if sent is not None:
        logger.info(f"{dataset}: was sent already; looking at what has arrived")
        return sent
    if is_there and message is None:
        if note.exists():  # of another build: its files may have the same names and sizes
            raise UsageError(f'{dataset}: exists with other content; send this as --new-version "MESSAGE"')
        logger.info(f"{dataset}: exists already; nothing is sent, only names and sizes are compared")
        return 0
    if not is_there and message is not None:
        raise UsageError(f"{dataset}: does not exist, or is not yours; send it with --upload first")
    if message is None:
        answer = client.dataset_create_new(folder, quiet=client.quiet)
    else:
        answer = client.dataset_create_version(folder, message, quiet=client.quiet)
    if answer.status.lower() != "ok":
        raise ShardifyError(f"{dataset}: Kaggle says: {answer.error or answer.status}")
    number = (newest or 0) + 1
    note.parent.mkdir(exist_ok=True)
    write_atomically(note, json_bytes({"dataset": dataset, "index_sha256": staged.index_sha256, "version": number}))
    return number


def _sent_before(note: Path, staged: Staged) -> int | None:
    """The version that an earlier run has made of this very folder."""
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
        same = (found["dataset"], found["index_sha256"]) == (staged.dataset, staged.index_sha256)
        return int(found["version"]) if same else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _look(ask: Callable, dataset: str) -> tuple[str, int | None]:
    """The dataset's status and newest version; None where Kaggle shows no such dataset.

    ask: the client's `dataset_status`, with its retries or without.
    """
    from requests import HTTPError

    try:
        found = json.loads(ask(dataset, format="json"))
    except HTTPError as error:
        if error.response is not None and error.response.status_code in (403, 404):
            return "not there", None
        raise
    return found["status"], None if found["status"] == "deleted" else found["current_version_number"]


def _wait(client, dataset: str, number: int) -> bool:
    """Until Kaggle has unpacked the version and shows it, or has failed to. Raises ShardifyError after hours."""
    start, pause, shown = time.monotonic(), POLL_SECONDS[0], None
    while True:
        status, current = _look(client.with_retry(client.dataset_status), dataset)
        if status == "ready" and (current or number) >= number:
            return True
        if status == "failed":
            return False
        if time.monotonic() - start > READY_SECONDS:
            raise ShardifyError(f"{dataset}: is still not ready ({status}); run the same command again to look later")
        if status != shown:
            logger.info(f"{dataset}: waiting for Kaggle to unpack it ({status})")
            shown = status
        time.sleep(pause)
        pause = min(1.5 * pause, POLL_SECONDS[1])


def _remote_files(client, dataset: str) -> dict[str, int]:
    """Name → bytes of every file that Kaggle lists."""
    found: dict[str, int] = {}
    token = None
    for number in itertools.count(1):
        page = client.with_retry(client.dataset_list_files)(dataset, token, PAGE_SIZE)
        if page.error_message:
            raise ShardifyError(f"{dataset}: Kaggle cannot list the files: {page.error_message}")
        found |= {file.name.lstrip("/"): file.total_bytes for file in page.dataset_files}
        token = page.next_page_token
        if not token:
            break
        if number % PAGES_A_LINE == 0:
            logger.info(f"{dataset}: {len(found)} files listed")
    return found


def _connect(staged: Staged):
    try:
        found = version("kaggle")
        if tuple(int(part) for part in found.split(".")[:3]) < CLIENT:
            raise UsageError(f"kaggle {found} is too old; pip install 'kaggle>={'.'.join(map(str, CLIENT))}'")
        from shardify.kaggle.client import Client
    except ImportError as error:
        raise UsageError(
            f"Kaggle's client is missing ({error}); pip install '.[kaggle]', or leave --upload or --new-version out to "
            f"see what to type"
        ) from error
    client = Client(len(staged.sent))
    with contextlib.redirect_stdout(io.StringIO()):
        client.authenticate()
    return client


@contextlib.contextmanager
def _one_line(dataset: str, source: str) -> Iterator[None]:
    """What the client raises, or how it exits, as one line; `source` is where the credentials are from."""
    refused = f"Kaggle refuses the credentials in {source}; make new ones at https://www.kaggle.com/settings/api"
    try:
        yield
    except ShardifyError:
        raise
    except SystemExit as error:
        raise UsageError(refused) from error
    except Exception as error:  # requests' errors, the client's own, and whatever an unforeseen answer leads to
        code = getattr(getattr(error, "response", None), "status_code", None)
        if code == 401:
            raise UsageError(refused) from error
        if code == 403:
            raise UsageError(f"{dataset}: Kaggle forbids it; is the owner in --id your user name there?") from error
        raise ShardifyError(f"{_reason(error)}; run the same command again to resume") from error


def _reason(error: Exception) -> str:
    """What happened, on a line; of a connection that failed, the innermost cause, which the outer ones wrap in more."""
    from requests import ConnectionError

    if not isinstance(error, ConnectionError) or error.request is None:
        return " ".join(f"Kaggle's client failed ({type(error).__name__}: {error})".split())
    cause: BaseException = error
    while below := cause.__cause__ or cause.__context__:
        cause = below
    return f"{urlsplit(error.request.url).hostname} cannot be reached ({cause})"


def compare(remote: dict[str, int], staged: Staged) -> list[str]:
    """What is missing at Kaggle, of another size, or too much; a tar may have stayed one or been unpacked."""
    expected = {name: size for name, size in staged.sent.items() if name not in staged.unpacked}
    for tar, files in staged.unpacked.items():
        expected |= {tar: staged.sent[tar]} if tar in remote else files
    problems = [f"{name}: is missing" for name in expected if name not in remote]
    problems += [
        f"{name}: has {remote[name]} bytes instead of {size}"
        for name, size in expected.items()
        if name in remote and remote[name] != size
    ]
    return problems + [f"{name}: was not sent" for name in remote if name not in expected]
