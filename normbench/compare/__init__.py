"""Two sets of results: what is worse, what is as good, and what the seeds cannot tell."""
