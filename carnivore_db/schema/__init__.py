"""The schema as data: models, Alembic's configuration, the catalog read, snapshots, the reference."""
