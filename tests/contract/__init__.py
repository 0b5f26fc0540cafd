"""Whole conversations with a daemon, word for word. See ``conversation`` for what a line means."""
