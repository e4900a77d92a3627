"""Opened shards: found by name, mixed, and divided into splits."""
