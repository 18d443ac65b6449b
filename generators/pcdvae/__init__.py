"""A crystal diffusion variational autoencoder with a phase head (P-CDVAE)."""
