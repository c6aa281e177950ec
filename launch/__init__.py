"""The doors: jobs started as `python -m launch.train` (or `eval`, `benchmark`), configured by gin."""
