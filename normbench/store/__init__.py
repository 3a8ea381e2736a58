"""What was measured, stored: its records, a folder of files, an export of one, and folders merged."""

from normbench.store.folder import DiskFullError, Store, StoreLostError, Writer, beside

__all__ = ["DiskFullError", "Store", "StoreLostError", "Writer", "beside"]
