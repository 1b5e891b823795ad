"""Pipeline, Step, Plan, the order of samples, their params: data only, nothing runs here."""
