"""Addresses as users write them, as paths make them, and those that are refused."""

import pickle
from pathlib import Path

import pytest

from shardify.errors import UsageError
from shardify.storage.address import Address, place_of


@pytest.mark.parametrize("name", ["s3://bucket/some/dir", Path("s3://bucket/some/dir"), "s3://bucket/some/dir/"])
def test_an_address_is_a_path_however_it_came(name):
    address = place_of(name)
    assert isinstance(address, Address) and str(address / "a.tar") == "s3://bucket/some/dir/a.tar"
    assert (address.scheme, address.bucket, address.key, address.name) == ("s3", "bucket", "some/dir", "dir")
    assert (address / "a.tar").parent == address == address.resolve() == pickle.loads(pickle.dumps(address))
    assert f"{(address / 'a.tar').with_suffix('')}" == "s3://bucket/some/dir/a"


@pytest.mark.parametrize("name", ["shards", "/abs/shards", "a:b/c", "C:/shards", Path("shards")])
def test_other_names_are_paths(name):
    assert place_of(name) == Path(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("s3://", "is no address"),
        ("gs://bucket/../x", "is no address"),
        ("hdfs://host/x", "not known; use a folder, or one of s3://"),
        ("https://host/x?X-Amz-Signature=hidden", "keys and signatures"),
        ("https://user:hidden@host/x", "keys and signatures"),
    ],
)
def test_what_is_no_address_is_refused_without_its_keys(name, words):
    with pytest.raises(UsageError, match=words) as caught:
        place_of(name)
    assert "hidden" not in str(caught.value)
