"""One module an experiment: how data, model, loss and optimizer are put together, and what to report at the end.

Each has ``build(settings, device)``, the experiment; ``metric_names(settings)``, those that its ``run.json`` will hold;
and ``final(settings, device, run)``, the last of them computed anew from the weights in a run's folder.
"""
