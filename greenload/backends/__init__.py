"""Backends: what runs a plan's steps on batches. Each imports its framework only when used."""
