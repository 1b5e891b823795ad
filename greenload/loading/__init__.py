"""Batches to the user: load, iterate, verify, pack."""
