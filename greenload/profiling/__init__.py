"""What each step of a pipeline costs."""
