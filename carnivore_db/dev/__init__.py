"""For development alone: a private PostgreSQL and the demo. Production needs none of it."""
