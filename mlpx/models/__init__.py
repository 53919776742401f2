"""Models from plain numbers."""
