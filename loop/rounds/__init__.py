"""What all learnings in rounds have in common: run directory, sessions that go on after a kill, workers, labels."""
