"""Compare a live database with the committed snapshot of its catalog (`carnivore-db verify`)."""
