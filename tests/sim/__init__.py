"""The simulated world of the tests: a clock that jumps, and a model that answers from a script."""
