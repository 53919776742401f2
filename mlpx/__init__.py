"""mlpx: the experiments of a deep-learning textbook chapter, run from the shell."""

__version__ = "0.3.0.dev0"
