"""Read by every Python that starts with this folder on its path: it is another day there."""

import os
import time

if seconds := os.environ.get("TESTS_CLOCK_SECONDS"):
    import time_machine

    real, since = time.time(), time.monotonic()
    # A number: the zone stays the environment's.
    clock = time_machine.travel(real + int(seconds), tick=True).start()
    # As far from the true time as the servers are, which no second may pass.
    clock.shift(real + int(seconds) + (time.monotonic() - since) - time.time())
