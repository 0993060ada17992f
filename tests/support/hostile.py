"""Settings of a database that are against whoever did not expect them."""

from __future__ import annotations

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Composable, Identifier, Literal

#: Milliseconds after which statements, transactions and sessions end.
LIMIT_MS = 400

#: By name, what is against a program that took the default for granted; for a user that may set them all.
HOSTILE = {
    "statement_timeout": str(LIMIT_MS),
    "lock_timeout": str(LIMIT_MS),
    "transaction_timeout": str(LIMIT_MS),
    "idle_session_timeout": str(LIMIT_MS),
    "idle_in_transaction_session_timeout": str(LIMIT_MS),
    "exit_on_error": "on",
    "tcp_keepalives_idle": "7200",
    "tcp_keepalives_interval": "75",
    "tcp_keepalives_count": "20",
    "tcp_user_timeout": "1",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "search_path": "",
    "quote_all_identifiers": "on",
    "restrict_nonsystem_relation_kind": "view,foreign-table",
    "default_table_access_method": "pile",
    "client_encoding": "LATIN1",
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "timezone_abbreviations": "India",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "xmlbinary": "hex",
    "xmloption": "document",
    "standard_conforming_strings": "off",
    "backslash_quote": "off",
    "escape_string_warning": "off",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "check_function_bodies": "off",
    "plpgsql.extra_errors": "all",
    "plpgsql.extra_warnings": "all",
    "row_security": "on",
    "session_replication_role": "replica",
    "gin_fuzzy_search_limit": "1",
    "client_min_messages": "debug5",
    # Left as they are, and harmless:
    "constraint_exclusion": "on",
    "cursor_tuple_fraction": "0.0001",
    "debug_parallel_query": "regress",
    "default_tablespace": "nowhere",
    "default_text_search_config": "pg_catalog.german",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_indexscan": "off",
    "enable_mergejoin": "off",
    "enable_partitionwise_join": "on",
    "enable_sort": "off",
    "geqo_threshold": "2",
    "jit_above_cost": "0",
    "max_parallel_workers_per_gather": "0",
    "plan_cache_mode": "force_generic_plan",
    "stats_fetch_consistency": "snapshot",
    "synchronize_seqscans": "off",
    "synchronous_commit": "off",
    "temp_tablespaces": "nowhere",
    "vacuum_cost_delay": "1",
    "work_mem": "64kB",
}


def make_hostile(dsn: str) -> list[str]:
    """Set all of them that the server knows for the database of a DSN; returns their names."""
    database = Identifier(str(conninfo_to_dict(dsn)["dbname"]))
    made = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE ACCESS METHOD pile TYPE TABLE HANDLER heap_tableam_handler")
        known = {str(row[0]).lower() for row in connection.execute("SELECT name FROM pg_settings")}
        for name, value in HOSTILE.items():
            if name.lower() in known or "." in name:
                connection.execute(SQL("ALTER DATABASE {} SET {} TO {}").format(database, _name(name), Literal(value)))
                made.append(name)
    return made


def _name(name: str) -> Composable:
    return SQL(".").join(map(Identifier, name.split(".")))
