"""Read by every Python that starts with this folder on its path: it is another day there."""

import os
import time

if seconds := os.environ.get("TESTS_CLOCK_SECONDS"):
    import time_machine

    # A number: the zone stays the environment's.
    time_machine.travel(time.time() + int(seconds), tick=True).start()
