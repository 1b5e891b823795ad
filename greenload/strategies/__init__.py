"""Strategies of augmentation compared: what each costs, what accuracy it buys, and which to choose."""
