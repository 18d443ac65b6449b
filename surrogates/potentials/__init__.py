"""Common ground of interatomic potentials: frames, graphs, losses, training, calculators."""
