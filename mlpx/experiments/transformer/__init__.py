"""The Transformer of "Attention Is All You Need", on pairs of sentences."""
