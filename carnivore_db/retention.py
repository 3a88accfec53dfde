"""Old rows that go: in batches, oldest first, each batch its own transaction."""
