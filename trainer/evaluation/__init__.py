"""Arrays become figures, tables and pictures."""
