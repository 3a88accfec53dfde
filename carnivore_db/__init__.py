"""The database of the Carnivore product family.

from carnivore_db import Database, identity
from carnivore_db.weekly import reports

db = Database()
with db.transaction(identity.anonymous()) as tx:
    report = reports.open(tx, token)
"""

from carnivore_db import errors, identity
from carnivore_db.database import AsyncDatabase, Database
from carnivore_db.identity import Identity
from carnivore_db.settings import Settings

__all__ = ["AsyncDatabase", "Database", "Identity", "Settings", "errors", "identity"]
