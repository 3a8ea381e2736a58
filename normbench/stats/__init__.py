"""Pure functions on numbers: statistics of a handful of seeds, or of a session's rounds."""
