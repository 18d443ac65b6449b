"""Properties that a potential is judged by, each measured with any force engine."""
