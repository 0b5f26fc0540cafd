"""captiond's engine: samples in, transcripts out. Imports nothing else of captiond."""
