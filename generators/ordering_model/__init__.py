"""A masked diffusion model of orderings on known lattices, conditioned on composition, phase and property."""
