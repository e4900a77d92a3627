"""The one door to files: where they lie, and how they are read and written."""
