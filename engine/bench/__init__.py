"""Measurements of the engine; outside the wheel. Each prints a table and one JSON line."""
