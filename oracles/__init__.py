"""Oracles: computations that label a structure with properties (LAMMPS and analytic models)."""
