"""The doors: jobs started as `python -m launch.train` and `python -m launch.eval`, configured by gin."""
