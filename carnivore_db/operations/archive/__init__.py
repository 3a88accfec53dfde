"""Cold storage: old months as Parquet files, and back."""
