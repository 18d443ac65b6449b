"""Models of vacancy migration barriers: hops, density maps, the convolutional network, models on lattice sites.

"Fan, Xing and Cao (2022)" is Z. Fan, B. Xing, P. Cao, "Convolutional neural networks enable high-fidelity prediction of
path-dependent diffusion barrier spectra in multi-principal element alloys".
"""
