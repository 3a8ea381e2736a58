"""Tables as data, and the one way to write them in each format."""

from normbench.tables.table import Table, by_column

__all__ = ["Table", "by_column"]
