"""Forces from voxels: a cell about each atom cut into voxels, and networks that read them."""
