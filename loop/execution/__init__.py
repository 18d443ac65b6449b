"""Executors: where oracle evaluations run (in this process, in a pool of processes, on Ray)."""
