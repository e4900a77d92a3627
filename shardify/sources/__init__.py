"""Data folders and manifests: which videos there are, and which belong together."""
