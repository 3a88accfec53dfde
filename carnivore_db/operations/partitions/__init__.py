"""Partitions by month: what is missing, why, and making it."""
