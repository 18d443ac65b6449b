"""Agents: what to generate, evaluate and retrain next, and when to stop."""
