"""Partitions by month: what is missing, making it, and what is old enough for cold storage."""
