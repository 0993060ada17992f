"""Profiles: how source tables are held in Postgres. They import only the model and the errors."""
