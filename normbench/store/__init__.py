"""What was measured, stored: its records, a folder of files, an export of one, and folders merged."""

from normbench.store.folder import RESULTS, DiskFullError, Store, StoreLostError, Writer, beside

__all__ = ["RESULTS", "DiskFullError", "Store", "StoreLostError", "Writer", "beside"]
