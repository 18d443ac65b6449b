"""Surrogates: cheap models of an oracle's properties, immutable once fitted."""
