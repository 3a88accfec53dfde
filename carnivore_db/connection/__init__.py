"""How the package talks to PostgreSQL: pool, BEGIN with an identity, single calls, errors translated."""
