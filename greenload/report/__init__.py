"""`Report`, and all that reads one: terminal, page, comparison, budgets, baselines, Prometheus."""
