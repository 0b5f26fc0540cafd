"""Programs and a library that talk to a captiond daemon. Imports nothing else of captiond."""
