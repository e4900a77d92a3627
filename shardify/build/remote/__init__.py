"""Builds whose videos or shards lie in object storage."""
