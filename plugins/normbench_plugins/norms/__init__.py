"""Norms: a file a family, with `NORMS`."""
