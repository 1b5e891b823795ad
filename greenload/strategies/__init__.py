"""Choosing between augmentation strategies: what each costs, and what it gains."""
