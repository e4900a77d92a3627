import pytest

from shardify.errors import UsageError
from shardify.format.settings import BuildSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"frames": 0}, "--frames is 0"),
        ({"size": 7}, "--size is 7; it must be 8 to 1024"),
        ({"stride": 0}, "--stride is 0"),
        ({"fit": "squash"}, "--fit is 'squash'; it must be stretch | crop | pad"),
        ({"quality": 101}, "--quality is 101"),
        ({"val_fraction": 1.0}, "--val-fraction is 1.0"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "--val-fraction plus --test-fraction is 1.0"),
        ({"shard_size": 0}, "--shard-size is 0"),
        ({"audio": "all"}, "--audio is 'all'; it must be none | auto | require"),
        ({"audio_mels": 64}, "--audio-mels says how sound is kept, and none is to be; pass --audio auto as well"),
        ({"audio": "auto", "audio_columns": 250}, "--audio-columns is 250; it must be a multiple of --frames 16"),
        ({"audio": "auto", "audio_high": 9000.0}, "--audio-high is 9000.0; it must be above --audio-low, up to 8000"),
        ({"audio": "auto", "audio_low": float("nan")}, "--audio-low is nan"),
    ],
)
def test_values_out_of_range_are_named(values, message):
    with pytest.raises(UsageError, match=message.replace("|", r"\|")):
        BuildSettings(**values)


def test_defaults_are_the_formats():
    settings = BuildSettings()
    assert (settings.frames, settings.size, settings.clips, settings.codec, settings.quality) == (
        16,
        128,
        1,
        "jpeg",
        95,
    )
    assert BuildSettings(**settings.to_dict()) == settings


def test_sound_is_in_the_index_only_where_it_is_kept():
    assert not any(name.startswith("audio") for name in BuildSettings().to_dict())
    settings = BuildSettings(audio="auto", audio_rate=48_000)
    assert settings.to_dict()["audio_rate"] == 48_000 and BuildSettings(**settings.to_dict()) == settings
