"""The tables of the platform: jobs, the archive's ledger, size samples. Only the migrating role uses them."""

from datetime import date, timedelta
from typing import Any

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, Date, ForeignKey, Index, Integer, Text, false, text
from sqlalchemy.dialects.postgresql import INTERVAL, REGCLASS
from sqlalchemy.orm import Mapped, mapped_column

from carnivore_db.schema.base import Base, JsonObject, Moment, Now


class InstalledArea(Base):
    """An area that is installed, or the platform itself."""

    __tablename__ = "areas"
    __table_args__ = (
        {
            "schema": "carnivore",
            "comment": "The areas that are installed, and the platform itself;"
            " an area's first revision adds it.",
        },
    )

    area: Mapped[str] = mapped_column(Text, primary_key=True, comment="Its name.")
    schemas: Mapped[list[str]] = mapped_column(ARRAY(Text), comment="The schemas that its tables are in.")


class PartitionedTable(Base):
    """A table with a partition a month."""

    __tablename__ = "partitioned_tables"
    __table_args__ = (
        Index("idx_partitioned_tables_area", "area"),
        {
            "schema": "carnivore",
            "comment": "The tables with a partition a month; an area registers its own.",
        },
    )

    parent: Mapped[str] = mapped_column(Text, primary_key=True, comment="The table, with its schema.")
    area: Mapped[str] = mapped_column(
        ForeignKey(InstalledArea.area, ondelete="CASCADE", info={"field": "area"}), comment="Whose it is."
    )
    holds: Mapped[str] = mapped_column(
        Text, comment="What its rows are, for the partitions' comments: Accesses, Events."
    )
    kept: Mapped[timedelta | None] = mapped_column(
        INTERVAL, comment="A month that ended longer ago is deleted by a job of the area; NULL: never."
    )


class Job(Base):
    """A scheduled job and its last run."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(
            "every > '00:00:00'::interval AND every <= '1000 days'::interval", name="every_in_range"
        ),
        CheckConstraint("batch >= 0", name="batch_not_negative"),
        Index("idx_jobs_area", "area"),
        {
            "schema": "carnivore",
            "comment": "The scheduled jobs and the last run of each; an area registers its own.",
        },
    )

    job: Mapped[str] = mapped_column(Text, primary_key=True, comment="Its name.")
    area: Mapped[str] = mapped_column(
        ForeignKey(InstalledArea.area, ondelete="CASCADE", info={"field": "area"}),
        comment="Whose it is.",
    )
    position: Mapped[int] = mapped_column(Integer, comment="Its place in a run of all jobs, smallest first.")
    description: Mapped[str] = mapped_column(Text, comment="What it does.")
    call: Mapped[str | None] = mapped_column(
        Text,
        comment="A statement that handles a batch and returns how many rows: $1 the batch, $2 the run's id,"
        " $3 options. NULL where the package does it, which writes files.",
    )
    batch: Mapped[int | None] = mapped_column(
        Integer, comment="Its own batch in place of the run's; 0: it is called once."
    )
    options: Mapped[JsonObject] = mapped_column(
        server_default=text("'{}'"), comment="Its options where a run gives none."
    )
    archives: Mapped[bool] = mapped_column(
        server_default=false(),
        comment="What it deletes may have to be archived first: a run may leave it out.",
    )
    due: Mapped[str | None] = mapped_column(
        Text,
        comment="A query that counts the rows it would delete; NULL where it deletes none, or where the"
        " package counts them.",
    )
    held: Mapped[str | None] = mapped_column(
        Text,
        comment="A query that counts the rows that are old enough and held; NULL where nothing holds them.",
    )
    on_failure: Mapped[str | None] = mapped_column(
        Text,
        comment="A statement that logs a failed run elsewhere too: $1 the job, $2 the run's id, $3 when it"
        " began, $4 SQLSTATE, $5 the rule.",
    )
    every: Mapped[timedelta] = mapped_column(
        INTERVAL,
        server_default=text("'2 days'::interval"),
        comment="How long it may go without success: then it is overdue.",
    )
    last_started_at: Mapped[Moment | None] = mapped_column(comment="When the last run began.")
    last_finished_at: Mapped[Moment | None] = mapped_column(comment="When the last run ended, well or not.")
    last_succeeded_at: Mapped[Moment | None] = mapped_column(comment="When a run last ended well.")
    last_error: Mapped[str | None] = mapped_column(
        Text,
        comment="SQLSTATE and rule, or the kind of error, of the last run; NULL when it ended well."
        " Never a text: that could quote a row.",
    )
    last_result: Mapped[JsonObject | None] = mapped_column(comment="What the last run did, as counts.")
    created_at: Mapped[Now] = mapped_column(
        comment="Since when the job is known; a job of the database that never ran is overdue from then on."
    )


class ArchivedPartition(Base):
    __tablename__ = "archived_partitions"
    __table_args__ = (
        CheckConstraint(
            "dropped_at IS NULL OR num_nulls(rows, sha256, bytes_before, bytes_after, detached_at) = 0",
            name="facts_with_dropped",
            info={"field": "dropped_at"},
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


class PartitionSize(Base):
    """How large a table or a partition was on a day."""

    __tablename__ = "partition_sizes"
    __table_args__ = (
        {
            "schema": "carnivore",
            "comment": "How large each table and each partition was, a sample a day; the migrating role's.",
        },
    )

    day: Mapped[date] = mapped_column(primary_key=True, comment="The day of the sample (UTC).")
    relation: Mapped[str] = mapped_column(
        Text, primary_key=True, comment="The table or the partition, with its schema."
    )
    bytes: Mapped[int] = mapped_column(
        BigInteger,
        comment="On disk, indexes and TOAST included; of a partitioned table, its partitions added up.",
    )
    rows: Mapped[int | None] = mapped_column(
        BigInteger, comment="The planner's estimate; NULL when nothing was ever analysed."
    )
