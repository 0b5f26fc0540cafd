"""Benches of the running daemon: ``python -m daemon.bench.live`` in the checkout. Outside the wheel."""
