"""Shards read as batches on the device."""
