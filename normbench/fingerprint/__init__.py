"""A few training steps as numbers, by which code that computes the same is recognized."""
