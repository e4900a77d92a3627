"""What frames and sound are good for in the behaviour demo: python scripts/demo_behaviour_report.py BOTH VIDEO AUDIO

The arguments are the folders of runs on both kinds of data, on frames alone and on sound alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HEADS = ("species", "behaviour")
CHANCE = "what can be known: frames and sound 1.00 1.00, frames 1.00 0.50, sound 0.33 0.50, another's sound 1.00 0.50"


def accuracies(run: Path) -> list[float]:
    """The test accuracy of each head."""
    found = json.loads((run / "results" / "experiment_results.json").read_text(encoding="utf-8"))
    return [found["test"]["heads"][head]["accuracy"] for head in HEADS]


def with_sound_of_others(run: Path) -> list[float]:
    """The same where each clip has the sound of another one."""
    found = json.loads((run / "results" / "contribution.json").read_text(encoding="utf-8"))
    return [found["figures"]["shuffled audio"][f"{head}.accuracy"] for head in HEADS]


def main(both: str, video: str, audio: str) -> None:
    rows = {
        "frames and sound": accuracies(Path(both)),
        "frames alone": accuracies(Path(video)),
        "sound alone": accuracies(Path(audio)),
        "sound of another clip": with_sound_of_others(Path(both)),
    }
    print("Test accuracy")
    print(f"{'trained on':<24}" + "".join(f"{head:>12}" for head in HEADS))
    for name, values in rows.items():
        print(f"{name:<24}" + "".join(f"{value:>12.3f}" for value in values))
    print(CHANCE)


if __name__ == "__main__":
    main(*sys.argv[1:])
