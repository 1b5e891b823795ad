"""greenload beside other loaders, each in an environment and a process of its own: ``python -m bench.peers``."""
