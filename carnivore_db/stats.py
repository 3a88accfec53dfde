"""How large the tables are, and how they grow."""
