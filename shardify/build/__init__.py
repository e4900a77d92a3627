"""A build: sources become shards, in the order that build.py knows."""
