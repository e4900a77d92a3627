"""The settings of a run: read from YAML and the command line, and resolved for this machine."""
