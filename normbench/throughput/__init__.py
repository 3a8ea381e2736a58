"""Sessions: how many samples a second each norm trains and evaluates, compared with a baseline, in rounds."""
