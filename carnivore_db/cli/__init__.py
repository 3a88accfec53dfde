"""The command `carnivore-db`: the schema, its upkeep, keys, exports, a private PostgreSQL, the demo."""

import typer

from carnivore_db.cli import archive, exports, keys, maintain, partitions, payments, schema, server, stats

# Tracebacks would show local variables, and those hold URLs with passwords.
app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(schema.app)
app.add_typer(maintain.app)
app.add_typer(stats.app)
app.add_typer(partitions.app, name="partitions")
app.add_typer(archive.app, name="archive")
app.add_typer(payments.app, name="payments")
app.add_typer(keys.app, name="keys")
app.add_typer(exports.app, name="exports")
app.add_typer(server.app, name="local")
