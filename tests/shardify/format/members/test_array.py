import io
import json

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
    ("shape", "message"), [((-1, 4), "has the shape"), ((True, 4), "has the shape"), ((2, 3), "its header says")]
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
