"""The MQTT sink and reader against a real broker. Its clock is real: a broker waits for nobody's jumps."""
