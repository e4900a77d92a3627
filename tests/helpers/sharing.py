"""One rank of a group whose ranks share the cache in RAM; prints what it has read and what its batches held."""

import json
import os
import sys
import zlib

from loading import like

from trainer import ClipLoader
from trainer.data.shard_set import ShardSet, open_shards
from trainer.devices.distributed import join_group, leave_group


class CountedShards(ShardSet):
    reads = 0

    def read(self, number, names=(), check=True):
        CountedShards.reads += 1
        return super().read(number, names, check)


def main():
    group = join_group(use_gpu=False)
    shards = like(CountedShards, open_shards(sys.argv[1]))
    clip_loader = ClipLoader(
        shards, batch_size=4, cache="ram", rank=group.rank, world=group.world, allot=group.shared_memory
    )
    epochs = []
    for epoch in range(3):
        reads, batches = CountedShards.reads, list(clip_loader.batches(epoch))
        epochs.append(
            {
                "numbers": [batch.numbers[batch.mask].tolist() for batch in batches],
                "pixels": [zlib.crc32(clip.numpy().tobytes()) for batch in batches for clip in batch.clips],
                "reads": CountedShards.reads - reads,
            }
        )
        group.any(False)  # as at the end of an epoch of training: nobody goes on before all are done
    clip_loader.close()
    line = json.dumps({"rank": group.rank, "epochs": epochs, "hit_rate": clip_loader.hit_rate}) + "\n"
    os.write(sys.stdout.fileno(), line.encode())  # in one piece: the ranks share a pipe
    leave_group(group)


if __name__ == "__main__":
    main()
