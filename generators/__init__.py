"""Generators: ask/tell sources of candidate structures, without hidden state."""
