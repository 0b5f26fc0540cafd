"""Captions to an MQTT broker, and through it to Home Assistant: topics, what waits, and one connection."""
