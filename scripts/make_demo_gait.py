"""Make the gait demo's data set: micro-Doppler pictures of people who walk towards a radar, with their manifest.

    python scripts/make_demo_gait.py OUT [--users 31] [--recordings 15] [--windows 10] [--size 256] [--jitter 0.4]

writes OUT/<user>/<recording>-<window>.jpg and OUT/pictures.csv; `gait_radar.py` says what they show. A recording is a
walk of its own, cut into windows that follow one another; the manifest names it as the group, so that no recording is
in two splits. Of each user's recordings a third is for training, some 13% to choose by, the others to judge by: of 15
recordings of 10 windows 50 pictures, 20 and 80. For shards:

    shardify build OUT SHARDS --manifest OUT/pictures.csv --frames 1 --size 64
"""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path

import click
import gait_radar
import numpy as np
from tqdm import tqdm

SHARES = {"train": 50, "val": 20, "test": 80}
MARKER, MANIFEST = ".gait-pictures", "pictures.csv"
QUALITY = 92


def splits(recordings: int) -> list[str]:
    """The split of each recording of a user: in proportion to SHARES, by largest remainders, at least one of each."""
    exact = {split: recordings * share / sum(SHARES.values()) for split, share in SHARES.items()}
    counts = {split: max(1, int(share)) for split, share in exact.items()}
    by_rest = sorted(exact, key=lambda split: counts[split] - exact[split])
    for split in by_rest[: recordings - sum(counts.values())]:
        counts[split] += 1
    return [split for split, count in counts.items() for _ in range(count)]


def rows(users: int, recordings: int, windows: int) -> list[tuple[str, str, str, str]]:
    """path, class, group and split of every picture, in order."""
    found = []
    for user in range(1, users + 1):
        for recording, split in enumerate(splits(recordings), 1):
            name, group = f"user-{user:02d}", f"user-{user:02d}-recording-{recording:02d}"
            found += [
                (f"{name}/{recording:02d}-{window:02d}.jpg", name, group, split) for window in range(1, windows + 1)
            ]
    return found


def make_recording(folder: Path, place: tuple[int, int, int], windows: int, size: int, jitter: float) -> None:
    """The pictures of one recording; place: the seed, the user's number and the recording's."""
    seed, user, number = place
    person = gait_radar.draw_person(np.random.default_rng((seed, user)))
    rng = np.random.default_rng((seed, user, number))
    walk = gait_radar.draw_recording(rng, person, jitter)
    for window in range(windows):
        signal = gait_radar.echo(rng, walk, window * gait_radar.SECONDS)
        path = folder / f"user-{user:02d}" / f"{number:02d}-{window + 1:02d}.jpg"
        gait_radar.picture(signal, size).save(path, quality=QUALITY)


def make_all(out: Path, counts: tuple[int, int, int], size: int, jitter: float, seed: int) -> bool:
    """Make the data set in `out`; False where the same one was there already. counts: users, recordings, windows."""
    here, (users, recordings, windows) = Path(__file__).parent, counts
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerows([("path", "class", "group", "split"), *rows(*counts)])
    source = b"".join((here / name).read_bytes() for name in ("make_demo_gait.py", "gait_radar.py"))
    made_by = hashlib.sha256(source + f"{size} {jitter} {seed} {table.getvalue()}".encode()).hexdigest()
    marker = out / MARKER
    is_there = marker.is_file() and marker.read_text() == made_by
    if is_there and all((out / row[0]).is_file() for row in rows(*counts)):
        return False
    there = list(out.glob("user-*/*.jpg"))
    if there and not marker.is_file():
        raise click.UsageError(f"{there[0]} was not made here; pass another folder than {out}")
    out.mkdir(parents=True, exist_ok=True)
    marker.write_text("unfinished")
    for old in there:
        old.unlink()
    for user in tqdm(range(1, users + 1), "users", unit="user", disable=None):  # None: no bar in a log
        (out / f"user-{user:02d}").mkdir(parents=True, exist_ok=True)
        for number in range(1, recordings + 1):
            make_recording(out, (seed, user, number), windows, size, jitter)
    (out / MANIFEST).write_text(table.getvalue())
    marker.write_text(made_by)
    return True


@click.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--users", default=31, show_default=True, type=click.IntRange(2, 99), help="People: the classes.")
@click.option("--recordings", default=15, show_default=True, type=click.IntRange(3, 99), help="Walks of each.")
@click.option("--windows", default=10, show_default=True, type=click.IntRange(1, 99), help="Pictures of each walk.")
@click.option("--size", default=256, show_default=True, type=click.IntRange(8, 1024), help="Pixels of a side.")
@click.option(
    "--jitter", default=0.4, show_default=True, type=click.FloatRange(0), help="How much a person's walks differ."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
def main(out: Path, users: int, recordings: int, windows: int, size: int, jitter: float, seed: int) -> None:
    """Make pictures of people who walk in OUT/<user>/, and their manifest OUT/pictures.csv."""
    made = make_all(out, (users, recordings, windows), size, jitter, seed)
    print(f"{users * recordings * windows} pictures {'made' if made else 'reused'} in {out}")


if __name__ == "__main__":
    main()
