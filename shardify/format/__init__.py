"""The shard format: the contract between the builder and the trainer."""
