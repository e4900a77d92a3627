"""Builds in parts, one machine each: a plan that all of them read, and the shards of one part of it."""
