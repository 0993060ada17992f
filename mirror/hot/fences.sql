-- The number of the last holder of each lock that wrote. See mirror/hot/fenced.py.
CREATE SCHEMA IF NOT EXISTS mirror;
CREATE TABLE IF NOT EXISTS mirror.fences (
    name  text PRIMARY KEY,
    fence bigint NOT NULL
);
