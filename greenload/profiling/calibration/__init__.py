"""This machine's costs, for ``backend="auto"``."""
