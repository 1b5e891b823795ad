"""What the functions of a dataset cost where they run: clocks around them, and what these say."""
