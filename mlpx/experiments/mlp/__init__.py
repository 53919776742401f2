"""A multilayer perceptron on images of ten classes."""
