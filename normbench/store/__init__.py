"""Where what was measured is kept: records, a folder of files, exports, folders put together."""

from normbench.store.folder import DiskFullError, Store, StoreLostError, Writer

__all__ = ["DiskFullError", "Store", "StoreLostError", "Writer"]
