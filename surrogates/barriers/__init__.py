"""Models of vacancy migration barriers: hops, density maps, the convolutional network, baselines on lattice sites."""
