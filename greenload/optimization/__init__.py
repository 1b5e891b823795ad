"""Finds the plan that spends the fewest joules for a whole training, by measuring."""
