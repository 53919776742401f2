"""The experiments: a folder each, one page of the textbook together. They never import each other."""
