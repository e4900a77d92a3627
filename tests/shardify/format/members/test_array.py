import io
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from shardify.format.members.array import Array, array_header, decode_array, encode_array

DEPTH = Array(name="depth", sides=(4, 6), type="float16")


def npy(array, **how):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **how)
    return buffer.getvalue()


def test_values_come_back_under_their_own_name():
    values = np.random.default_rng(0).random((4, 6)).astype(np.float16)
    payload = DEPTH.encode(values)
    assert DEPTH.extension == "depth.npy" and payload == DEPTH.encode(values)
    assert np.array_equal(DEPTH.decode(payload), values)
    assert np.array_equal(np.load(io.BytesIO(payload), allow_pickle=False), values)
    assert Array.from_dict("depth", json.loads(json.dumps(DEPTH.to_dict() | {"later": 1}))) == DEPTH


def test_decoding_copies_nothing():
    values = np.arange(6, dtype=np.uint8)
    decoded = decode_array(encode_array(values))
    assert np.array_equal(decoded, values) and not decoded.flags.owndata
    assert array_header(encode_array(values)[:128]) == ((6,), np.dtype(np.uint8), 128)


@pytest.mark.parametrize(
    "values", [np.zeros((4, 7), np.float16), np.zeros((4, 6), np.float32), np.zeros((6, 4), np.float16)]
)
def test_another_shape_or_dtype_is_refused(values):
    with pytest.raises(ValueError, match="holds"):
        DEPTH.decode(encode_array(values))


def test_values_are_not_rounded_in_silence():
    with pytest.raises(TypeError, match="Cannot cast"):
        DEPTH.encode(np.zeros((4, 6), np.float32))


@pytest.mark.parametrize(
    "payload",
    [
        npy(np.array([{"a": 1}], dtype=object), allow_pickle=True),
        npy(np.zeros((2, 2), np.complex64)),
        npy(np.zeros((2, 3), np.uint8, order="F")),
        npy(np.zeros(4, np.uint8))[:-2],
        npy(np.zeros(4, np.uint8), version=(2, 0)),
        b"not an array",
        b"",
    ],
)
def test_what_it_would_not_have_written_is_refused(payload):
    with pytest.raises(ValueError):
        decode_array(payload)


@pytest.mark.parametrize(
    ("shape", "message"), [((-1, 4), "is no .npy file"), ((True, 4), "is no .npy file"), ((2, 3), "its header says")]
)
def test_headers_that_promise_another_shape(shape, message):
    payload = io.BytesIO()
    np.lib.format.write_array_header_1_0(payload, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with pytest.raises(ValueError, match=message):
        decode_array(payload.getvalue() + bytes(4))


@pytest.mark.parametrize(
    ("field", "value"),
    [("type", "object"), ("type", 3), ("sides", 5), ("sides", [0]), ("sides", [True]), ("sides", [1 << 30])],
)
def test_entries_that_no_build_writes_are_refused(field, value):
    with pytest.raises(ValueError, match=rf"^members\.depth\.{field} is "):
        Array.from_dict("depth", {**DEPTH.to_dict(), field: value})


def test_headers_in_the_thread_of_each_decoder():
    """NumPy's own reader refuses sound headers there (github.com/python/cpython/issues/106905)."""
    payload = encode_array(np.zeros((2, 3, 4), np.float32))
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(array_header, [payload] * 1_000)) == {((2, 3, 4), np.dtype(np.float32), 128)}


def test_a_long_shape_takes_no_time():
    with pytest.raises(ValueError, match=r"is no \.npy file"):
        decode_array(b"\x93NUMPY\x01\x00\xff\xff{'descr': '|u1', 'fortran_order': False, 'shape': (" + b"1" * 60_000)
