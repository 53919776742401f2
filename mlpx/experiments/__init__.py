"""One module an experiment: how data, model, loss and optimizer are put together, and what to report at the end.

Each has ``METRICS``, the names that ``run.json`` will hold, and ``build(settings, device)``, the experiment.
"""
