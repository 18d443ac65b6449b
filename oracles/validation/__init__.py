"""Properties that a potential is judged by: equation of state, elasticity, defects, surfaces, phonons, melting."""
