"""Is a database what the package makes? The checks behind `carnivore-db verify`."""
