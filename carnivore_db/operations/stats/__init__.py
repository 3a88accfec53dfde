"""How large the tables are, how they grow, and what needs an operator's attention."""

from sqlalchemy import Engine, text

_RECORD = text("SELECT carnivore.record_partition_sizes()")


def record(engine: Engine) -> int:
    """Note the size of every table and partition for today (UTC), as the migrating role.

    `engine` is a Database's. Again on the same day it replaces the day's sample; samples older than 400 days
    go. Returns how many tables and partitions were noted. Raises Busy when one of them stays locked for two
    seconds.
    """
    with engine.begin() as connection:
        return int(connection.execute(_RECORD).scalar_one())
