-- What Synapse's search finds in Postgres, made of the rows that are there: it may be run again and again.
--
-- In SQLite these are tables of FTS4, which are not mirrored. For `mirror adopt --after-copy`: it is run in the schema of
-- Synapse's tables once the first copy is done, and again by the switch.

-- Messages, names and topics of rooms.
WITH texts AS MATERIALIZED (
    SELECT e.event_id, e.room_id, e.stream_ordering, e.origin_server_ts, e.type,
           -- A NUL is the one character of JSON that Postgres has not. What is before it must not be a backslash that
           -- is itself escaped.
           regexp_replace(j.json, '(?<!\\)((\\\\)*)\\u0000', '\1 ', 'g')::json -> 'content' AS content
      FROM events e
      JOIN event_json j USING (event_id)
     WHERE e.type IN ('m.room.message', 'm.room.name', 'm.room.topic')
       AND NOT e.outlier
       AND NOT EXISTS (SELECT FROM rejections r WHERE r.event_id = e.event_id)
), found AS (
    SELECT event_id, room_id, stream_ordering, origin_server_ts, 'content.body' AS key, content -> 'body' AS value
      FROM texts WHERE type = 'm.room.message'
    UNION ALL
    SELECT event_id, room_id, stream_ordering, origin_server_ts, 'content.name', content -> 'name'
      FROM texts WHERE type = 'm.room.name'
    UNION ALL
    -- Of a topic the first plain text, where it has several forms.
    SELECT event_id, room_id, stream_ordering, origin_server_ts, 'content.topic',
           coalesce(
               (SELECT form.value -> 'body'
                  FROM json_array_elements(CASE json_typeof(content -> 'm.topic' -> 'm.text')
                                           WHEN 'array' THEN content -> 'm.topic' -> 'm.text' ELSE '[]' END)
                       WITH ORDINALITY AS form (value, at)
                 WHERE json_typeof(form.value) = 'object'
                   AND coalesce(form.value ->> 'mimetype', 'text/plain') IN ('', 'text/plain')
                   AND json_typeof(form.value -> 'body') = 'string'
                 ORDER BY at LIMIT 1),
               content -> 'topic')
      FROM texts WHERE type = 'm.room.topic' AND json_typeof(content -> 'topic') = 'string'
), wanted AS MATERIALIZED (
    SELECT event_id, room_id, key, stream_ordering, origin_server_ts, to_tsvector('english', value #>> '{}') AS vector
      FROM found WHERE json_typeof(value) = 'string'
), gone AS (
    DELETE FROM event_search s WHERE NOT EXISTS (SELECT FROM wanted w WHERE w.event_id = s.event_id)
)
INSERT INTO event_search AS s (event_id, room_id, key, stream_ordering, origin_server_ts, vector)
SELECT event_id, room_id, key, stream_ordering, origin_server_ts, vector FROM wanted
    ON CONFLICT (event_id) DO UPDATE
   SET room_id = EXCLUDED.room_id, key = EXCLUDED.key, stream_ordering = EXCLUDED.stream_ordering,
       origin_server_ts = EXCLUDED.origin_server_ts, vector = EXCLUDED.vector
 WHERE (s.room_id, s.key, s.stream_ordering, s.origin_server_ts, s.vector) IS DISTINCT FROM
       (EXCLUDED.room_id, EXCLUDED.key, EXCLUDED.stream_ordering, EXCLUDED.origin_server_ts, EXCLUDED.vector);

-- People: the name in their id before all, then the one that they show, then their server. Synapse's databases have the
-- locale C, which knows lower case of ASCII alone, so another one is asked.
DO $do$
BEGIN
    EXECUTE format($sql$
        WITH wanted AS MATERIALIZED (
            SELECT user_id,
                   setweight(to_tsvector('simple', substring(user_id FROM '^@([^:]*)')), 'A')
                   || setweight(to_tsvector('simple', substring(user_id FROM '^[^:]*:(.*)$')), 'D')
                   || setweight(to_tsvector('simple', normalize(lower(display_name COLLATE %1$s), NFKC)), 'B') AS vector
              FROM (SELECT user_id, coalesce(display_name, '') AS display_name FROM user_directory) AS people
        ), gone AS (
            DELETE FROM user_directory_search s WHERE NOT EXISTS (SELECT FROM wanted w WHERE w.user_id = s.user_id)
        )
        INSERT INTO user_directory_search AS s (user_id, vector)
        SELECT user_id, vector FROM wanted
            ON CONFLICT (user_id) DO UPDATE SET vector = EXCLUDED.vector WHERE s.vector IS DISTINCT FROM EXCLUDED.vector
    $sql$, coalesce((
        SELECT format('pg_catalog.%I', c.collname)
          FROM pg_catalog.pg_collation c
         WHERE c.collnamespace = 'pg_catalog'::regnamespace AND c.collencoding IN (-1, 6)
           AND c.collname IN ('pg_c_utf8', 'C.utf8', 'und-x-icu', 'en_US.utf8')
         ORDER BY array_position(ARRAY['und-x-icu', 'pg_c_utf8', 'C.utf8', 'en_US.utf8'], c.collname::text)
         LIMIT 1
    ), '"default"'));
END
$do$;
