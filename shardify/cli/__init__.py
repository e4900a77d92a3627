"""The program `shardify`: options of each command become a request."""
