"""The run directory: append-only event log, lock, content-addressed files."""
