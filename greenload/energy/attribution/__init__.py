"""From windows to costs with intervals: arithmetic only."""
