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
