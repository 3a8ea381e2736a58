"""Probes: a file a probe, with `PROBES`."""
