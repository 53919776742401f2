"""The data folder, and downloads into it."""
