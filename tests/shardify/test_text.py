from builds import make_videos, video_names
from click.testing import CliRunner

from shardify.cli.main import main
from shardify.errors import FormatError
from shardify.text import printable

RED = "\x1b[31mred\x1b[0m"


def test_what_a_terminal_would_obey_is_shown():
    assert printable(f"a {RED}\n\r\x9b\u202e\u2028\udcff") == r"a \x1b[31mred\x1b[0m\n\r\x9b\u202e\u2028\udcff"
    assert printable("Ää 日本 🙂 \u200c") == "Ää 日本 🙂 \u200c"


def test_no_error_carries_a_control_character():
    assert str(FormatError(f"{RED}\nsecond line")) == r"\x1b[31mred\x1b[0m\nsecond line"


def test_names_of_others_do_not_reach_the_terminal_raw(tmp_path):
    """Classes, and inputs that fail, from a folder's names."""
    data = make_videos(tmp_path / "data", video_names(4))
    (data / "fake").rename(data / RED)
    (data / f"{RED}.mp4").write_bytes(b"")
    shards = tmp_path / "s"
    commands = [["build", data, shards, "--size", "32"], ["info", shards], ["info", shards, "--json"]]
    (data / RED / "last.mp4").write_bytes(b"no")
    for command in [*commands, ["plan", data], ["verify", shards]]:
        result = CliRunner().invoke(main, list(map(str, command)))
        assert "\x1b" not in result.output, command
        assert command[0] == "verify" or "red" in result.output, command
