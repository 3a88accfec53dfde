"""The command `carnivore-db`: migrate, verify, maintain, stats, keys, exports, a PostgreSQL, the demo."""

import typer

from carnivore_db.cli import exports, keys, maintain, schema, server, stats

# Tracebacks would show local variables, and those hold URLs with passwords.
app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(schema.app)
app.add_typer(maintain.app)
app.add_typer(stats.app)
app.add_typer(keys.app, name="keys")
app.add_typer(exports.app, name="exports")
app.add_typer(server.app, name="local")
