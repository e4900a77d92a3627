"""Commands on a finished shards folder, and on this machine."""
