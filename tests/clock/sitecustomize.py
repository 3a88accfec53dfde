"""Read by every Python that starts with this folder on its path: it is another day there."""

import datetime
import os

if seconds := os.environ.get("TESTS_CLOCK_SECONDS"):
    import time_machine

    now = datetime.datetime.now(datetime.UTC)
    time_machine.travel(now + datetime.timedelta(seconds=int(seconds)), tick=True).start()
