"""Properties that a potential is judged by, from any engine of forces: equation of state, elasticity, defects, melting."""
