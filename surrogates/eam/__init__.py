"""Embedded-atom and angular-dependent potentials whose functions are learnt (Chen et al., TensorAlloy)."""
