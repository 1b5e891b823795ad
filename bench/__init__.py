"""greenload against pipelines written by hand: ``python -m bench`` on the CPU, ``python -m bench.gpu`` on a GPU."""
