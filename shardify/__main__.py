"""The `shardify` program, also as `python -m shardify`: Ctrl-C gives 130 or the finished command's exit code."""

import signal

from shardify.interrupt import leave_at_once


def main() -> None:
    signal.signal(signal.SIGINT, leave_at_once)
    try:
        from shardify.cli.main import main as run
        from shardify.terminal import escape_unprintable

        escape_unprintable()
        run()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Python's own shutdown would put back the default: death


if __name__ == "__main__":
    main()
