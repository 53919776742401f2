"""The run folder: what is kept of a run, so that nothing of it is lost."""
