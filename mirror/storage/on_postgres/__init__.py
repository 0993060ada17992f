"""Operations on the tables of ``sql/profiles/memustore``, as the role argent_app and under row security."""
