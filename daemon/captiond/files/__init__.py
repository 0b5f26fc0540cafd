"""Captions in files: which lines there are, how they look in each format, and how they get to the disk."""
