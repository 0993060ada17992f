-- $1 settings, a JSON object of texts: sets those that the server has and the user may set; a row for each other one
-- that has another value. Of plpgsql's the server has none before the language is loaded.
SELECT w.name, s.setting, w.value
  FROM pg_catalog.jsonb_each_text($1::jsonb) AS w (name, value)
  LEFT JOIN pg_catalog.pg_settings s ON lower(s.name) = lower(w.name)
 WHERE CASE
       WHEN s.name IS NULL AND w.name NOT LIKE 'plpgsql.%' THEN false
       WHEN s.context = 'superuser' AND NOT pg_catalog.has_parameter_privilege(w.name, 'SET')
            THEN s.setting <> w.value
       ELSE pg_catalog.set_config(w.name, w.value, false) IS NULL
       END
