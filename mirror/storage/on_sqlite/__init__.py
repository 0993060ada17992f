"""Operations on a SQLite file as the original program made it: nothing is added to its schema."""
