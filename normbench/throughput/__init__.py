"""Sessions: how many samples a second each norm trains and evaluates, beside a baseline, in rounds.

What is said of one is here, without torch; `normbench.throughput.session` measures.
"""

from normbench.throughput.entry import Effort, Entry, Measured, Round, Turn

__all__ = ["Effort", "Entry", "Measured", "Round", "Turn"]
