"""Settings: read from YAML and the command line, resolved for this machine."""
