"""The change feed: what was applied to Postgres, told to Redis, to clients of the status page's port, and to a webhook.

Telling never holds up applying. A source's loop puts an entry into a bounded buffer and goes on; threads of their own
read from there, or from the log in Postgres where the buffer does not reach back. What is in neither is told as a gap.
"""
