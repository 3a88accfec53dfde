"""How large the tables are, how they grow, and what needs an operator's attention."""
