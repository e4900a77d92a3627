import numpy as np
import pytest

from shardify.format.records import DTYPE_1, UNLABELLED, Head, name_fields, sample_dtype, unsafe_keys, wrong_labels


def test_fields_follow_from_the_names_of_members_and_heads():
    assert sample_dtype(("frames", "mel"), ("class", "motion")).names == (
        "key", "split", "shard", "group", "target", "source", "original", "frames_offset", "frames_length",
        "frames_crc", "mel_offset", "mel_length", "mel_crc", "mel_present", "label_class", "label_motion",
    )  # fmt: skip
    kinds = sample_dtype(("frames", "mel"))
    assert kinds["mel_present"] == np.bool_
    assert (kinds["source"], kinds["original"], kinds["label_class"]) == (np.uint32, np.int32, np.int16)


def test_records_of_version_1_are_seen_under_todays_names_without_a_copy():
    samples = np.zeros(2, DTYPE_1)
    named = name_fields(samples)
    samples["offset"], samples["label"], samples["key"] = (7, 2**40), (1, 0), (b"a", b"b")
    assert named["frames_offset"].tolist() == [7, 2**40] and named["label_class"].tolist() == [1, 0]
    assert np.shares_memory(named, samples) and named.tobytes() == samples.tobytes()


def test_labels_may_be_missing_but_not_those_of_the_primary_head():
    heads = [Head("class", ["real", "fake"]), Head("motion", ["left", "right", "none"])]
    samples = np.zeros(4, sample_dtype(heads=("class", "motion")))
    samples["label_class"], samples["label_motion"] = (0, 1, 2, UNLABELLED), (UNLABELLED, 2, 3, -2)
    assert [(number, head.name) for number, head in wrong_labels(samples, heads)] == [
        (2, "class"), (3, "class"), (2, "motion"), (3, "motion"),
    ]  # fmt: skip


@pytest.mark.parametrize("key", [b"../x", b"", b"a.b", b"a\0b", "é".encode(), b"a b"])
def test_keys_that_are_no_names_of_files(key):
    keys = np.array([b"good-1_a", key, b"Z" * 80], "S80")
    assert list(unsafe_keys(keys)) == [1]
