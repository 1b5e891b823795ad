"""Small programs in the manner of public tutorials' input pipelines, written anew: what `greenload watch` must bear.

Each makes its data, and prints only what is the same in every run.
"""
