"""Tables that an application's own migrations made in Postgres: what their columns take, and how they are used."""
