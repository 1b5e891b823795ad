"""Which backend runs which step: sizes, prices, placement, choice."""
