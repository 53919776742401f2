"""Sweeps: a folder of ordinary run folders, laid out before the first step; to carry out a run is to resume it."""
