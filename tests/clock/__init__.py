"""The suite as if it were another day, in another time zone: `python -m tests.clock 2028-12-31T23:50`."""
