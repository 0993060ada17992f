-- path, schema: the profile by which a source's tables are stored.
SELECT profile FROM mirror.sources WHERE path = %(path)s AND schema_name = %(schema)s
