"""The clients of obstore: one for each bucket, with our bounds and the user's keys."""

from __future__ import annotations

import functools
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shardify.errors import StorageError, UsageError
from shardify.storage import attempts
from shardify.storage.address import Address

if TYPE_CHECKING:
    from obstore.store import ObjectStore

HOW_TO_SIGN = {  # for people
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS to a key file, or GOOGLE_SKIP_SIGNATURE=true for a public bucket",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_SKIP_SIGNATURE=true for a public one",
    "http": "web servers are read without keys",
    "https": "web servers are read without keys",
}
ENDPOINTS = (
    *("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    *("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT", "GOOGLE_BASE_URL"),
)
_process: int | None = None  # whose threads obstore's clients use; a fork has none of them, and would wait for ever
YES = ("1", "true", "on", "yes", "y")


def store_of(address: Address, *, retries: bool = False) -> ObjectStore:
    """The client of an address's bucket, by whose `key` its objects are called.

    retries: whether it tries again by itself, as is needed where one call makes many requests.
    Raises UsageError without obstore or an account, StorageError without keys.
    """
    global _process
    _process = _process or os.getpid()
    if _process != os.getpid():
        raise StorageError(f"{address}: cannot be read in a fork of a process that has done so; start it by spawn")
    try:
        return _make(address.scheme, address.bucket, retries, attempts.BOUNDS)
    except ModuleNotFoundError as error:
        if error.name != "obstore":
            raise
        raise UsageError(
            f'{address}: is read with obstore, which is not here; pip install "shardify[remote]"'
        ) from error


@functools.cache
def _make(scheme: str, root: str, retries: bool, bounds: attempts.Bounds) -> ObjectStore:
    from obstore import store
    from obstore.exceptions import BaseError

    is_open = scheme == "http" or any(os.environ.get(name, "").startswith("http://") for name in ENDPOINTS)
    options: dict[str, Any] = {
        "client_options": {
            "connect_timeout": timedelta(seconds=bounds.connect),
            "timeout": timedelta(seconds=bounds.request),
            "allow_http": is_open,
        },
        "retry_config": {
            "max_retries": bounds.tries - 1 if retries else 0,
            "retry_timeout": timedelta(seconds=bounds.total - bounds.request),
        },
    }
    try:
        if scheme == "s3":
            return store.S3Store(root, **options, **_boto3_chain(root))
        if scheme == "gs":
            return store.GCSStore(root, **options, **_unsigned_writes())
        if scheme == "az":
            return store.AzureStore(root, **options)
        return store.HTTPStore(f"{scheme}://{root}", **options)
    except (BaseError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{scheme}://{root}: cannot be opened ({reason}); {HOW_TO_SIGN[scheme]}") from error


def _is_set(name: str) -> bool:
    return os.environ.get(name, "").lower() in YES


def _unsigned_writes() -> dict[str, Any]:
    """For Google without signatures, as of a server for tests: obstore leaves them out where it reads, not elsewhere.

    There it is given a token that nobody knows, so that it asks no cloud for one.
    """
    if not _is_set("GOOGLE_SKIP_SIGNATURE"):
        return {}
    return {"credential_provider": lambda: {"token": "none", "expires_at": None}}


def _boto3_chain(bucket: str) -> dict[str, Any]:
    """The keys that boto3 finds, in files and from an instance too, where there are none in the environment."""
    if "AWS_ACCESS_KEY_ID" in os.environ or _is_set("AWS_SKIP_SIGNATURE"):
        return {}
    try:
        from botocore.exceptions import BotoCoreError
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ModuleNotFoundError:
        return {}
    try:
        return {"credential_provider": Boto3CredentialProvider()}
    except ValueError as error:
        raise StorageError(f"s3://{bucket}: no keys are found; {HOW_TO_SIGN['s3']}") from error
    except BotoCoreError as error:
        reason = " ".join(str(error).split())
        raise StorageError(f"s3://{bucket}: no keys are found ({reason}); {HOW_TO_SIGN['s3']}") from error
