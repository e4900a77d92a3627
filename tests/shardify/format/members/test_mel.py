import json
import math

import numpy as np
import pytest

from shardify.format.members import members_from, members_of
from shardify.format.members.mel import FLOOR, Mel
from shardify.format.settings import BuildSettings

MEL = members_of(BuildSettings(audio="auto", audio_mels=8, audio_columns=32))["mel"]


def test_a_build_with_sound_has_the_member_and_no_other_build():
    assert MEL.to_dict() == {
        "kind": "mel", "rate": 16_000, "mels": 8, "columns": 32, "window": 25.0, "hop": 10.0, "low": 20.0,
        "high": 8000.0, "seconds": None,
    }  # fmt: skip
    assert members_from({"mel": json.loads(json.dumps(MEL.to_dict()))}) == {"mel": MEL}
    assert list(members_of(BuildSettings())) == ["frames"]


def test_values_come_back_and_silence_is_the_floor():
    values = np.random.default_rng(0).normal(size=(1, 8, 32)).astype(np.float16)
    assert MEL.extension == "mel.npy" and np.array_equal(MEL.decode(MEL.encode(values)), values)
    silence = MEL.decode(MEL.encode(MEL.silence()))
    assert silence.shape == MEL.shape == (1, 8, 32) and np.unique(silence).tolist() == [np.float16(FLOOR)]
    assert math.isclose(FLOOR, np.log(1e-10))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rate", 0), ("rate", 16_000.0), ("mels", 513), ("columns", True), ("window", 0), ("hop", float("nan")),
        ("low", -1), ("high", 8001), ("high", 20), ("seconds", 0), ("seconds", "2"),
    ],
)  # fmt: skip
def test_entries_that_no_build_writes_are_refused(field, value):
    with pytest.raises(ValueError, match=rf"^members\.mel\.{field} is "):
        Mel.from_dict("mel", {**MEL.to_dict(), field: value})


def test_it_has_one_name():
    with pytest.raises(ValueError, match=r"^members\.sound\.name is 'sound', not mel"):
        Mel.from_dict("sound", MEL.to_dict())
