"""Measures the engine on a GPU; see ``__main__``."""
