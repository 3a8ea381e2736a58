"""Worker processes: what the executor `processes` trains in."""
