"""Polynomials of degree 1, 3 and 19 fitted to noisy cubic data: underfitting, fitting, overfitting."""
