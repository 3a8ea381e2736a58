"""Norms: one file for each family, with `NORMS`."""
