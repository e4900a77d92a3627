"""The kinds of payload that a sample can have."""
