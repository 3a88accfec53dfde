"""The ledger of months in cold storage: one row a file, and how far each has come."""

from datetime import date
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Date, Integer, Text
from sqlalchemy.dialects.postgresql import REGCLASS
from sqlalchemy.orm import Mapped, mapped_column

from carnivore_db.base import Base, Moment, Now


class ArchivedPartition(Base):
    __tablename__ = "archived_partitions"
    __table_args__ = (
        CheckConstraint(
            "dropped_at IS NULL OR num_nulls(rows, sha256, bytes_before, bytes_after, detached_at) = 0",
            name="facts_with_dropped",
        ),
        {
            "schema": "carnivore",
            "comment": "Months in cold storage: one row a file, and how far each has come.",
        },
    )

    parent: Mapped[str] = mapped_column(
        Text, primary_key=True, comment="The partitioned table, with its schema."
    )
    month: Mapped[date] = mapped_column(Date, primary_key=True, comment="The first of the month (UTC).")
    part: Mapped[int] = mapped_column(
        Integer,
        primary_key=True,
        autoincrement=False,
        comment="Which of the month's files, from 1: rows that came after the month was archived have one"
        " of their own.",
    )
    file_url: Mapped[str] = mapped_column(Text, comment="The file; its manifest lies beside it.")
    rows: Mapped[int | None] = mapped_column(
        BigInteger, comment="Rows in the file; NULL until the month is dropped, as are the next three."
    )
    sha256: Mapped[str | None] = mapped_column(Text, comment="Of the file, in lower-case hex.")
    bytes_before: Mapped[int | None] = mapped_column(
        BigInteger, comment="What the partition took, indexes included."
    )
    bytes_after: Mapped[int | None] = mapped_column(BigInteger, comment="What the file takes.")
    begun_at: Mapped[Now] = mapped_column(comment="When it was begun.")
    detached_at: Mapped[Moment | None] = mapped_column(
        comment="When the partition left its table for the schema carnivore, the file once read back and"
        " found right."
    )
    dropped_at: Mapped[Moment | None] = mapped_column(
        comment="When it was dropped: from then on the file alone has the rows."
    )
    restored_as: Mapped[Any] = mapped_column(
        REGCLASS,
        nullable=True,
        comment="The partition into which the rows came back; while it exists, the file is a copy.",
    )
    keep_until: Mapped[Moment | None] = mapped_column(comment="Until when a restored month is left alone.")
