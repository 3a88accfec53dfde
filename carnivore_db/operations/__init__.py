"""Upkeep of a database: maintenance, retention, partitions, archive, verification, statistics."""
