"""The built-in norms as their papers define them, one plain computation each: what `normbench check` compares with.

Written from the equations, not from the layers, for float64 and without a thought of speed.
"""
