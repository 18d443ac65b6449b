"""Crystal structures: lattices, compositions, order parameters, symmetry, identity and files.

A structure is an :class:`ase.Atoms`, treated as immutable. This is the ground every other part stands on.
"""
