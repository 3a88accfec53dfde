"""The samples that growth is measured by; the migrating role's alone."""

from datetime import date

from sqlalchemy import BigInteger, Text
from sqlalchemy.orm import Mapped, mapped_column

from carnivore_db.base import Base


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
