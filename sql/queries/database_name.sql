-- Which database this is, among those from which mirrors may publish to one Redis.
SELECT database_id::text FROM mirror.change_feed
