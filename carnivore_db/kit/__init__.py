"""What every area builds on: checked inputs, one row or an error, pages, months, storage, optional extras."""
