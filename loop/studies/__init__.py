"""Hyperparameter studies: fits with many settings, and what came of them."""
