"""One trial on several devices: a group of ranks, each a process."""
