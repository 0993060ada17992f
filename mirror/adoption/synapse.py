"""What is known of matrix-synapse, of version 1.163 (schema 94): which rows have the numbers of its sequences.

In Postgres Synapse asks 21 sequences for numbers that no column has; with SQLite it goes on from what the same columns
have. Most are streams: each change has a number, and a client that comes back says up to which it has seen. What a
stream's tables have now is not all that was given: messages to devices are deleted once they are delivered. How far
each stream has come is in ``stream_positions``, also with SQLite. A sequence below that would give numbers that clients
have seen, and they would never be told of the rows.
"""

from __future__ import annotations

from mirror.core.free_sequences import FreeSequences, Numbers

#: By sequence, the stream's name in ``stream_positions``, and the columns of its numbers.
_STREAMS = {
    "account_data_sequence": (
        "account_data",
        ("account_data.stream_id", "room_account_data.stream_id", "room_tags_revisions.stream_id"),
    ),
    "device_inbox_sequence": ("to_device", ("device_inbox.stream_id", "device_federation_outbox.stream_id")),
    "device_lists_sequence": (
        "device_lists_stream",
        (
            "device_lists_changes_converted_stream_position.stream_id",
            "device_lists_changes_in_room.stream_id",
            "device_lists_outbound_pokes.stream_id",
            "device_lists_remote_pending.stream_id",
            "device_lists_stream.stream_id",
            "user_signature_stream.stream_id",
        ),
    ),
    "e2e_cross_signing_keys_sequence": ("e2e_cross_signing_keys", ("e2e_cross_signing_keys.stream_id",)),
    "events_stream_seq": (
        "events",
        ("events.stream_ordering", "current_state_delta_stream.stream_id", "ex_outlier_stream.event_stream_ordering"),
    ),
    "presence_stream_sequence": ("presence_stream", ("presence_stream.stream_id",)),
    "profile_updates_sequence": ("profile_updates", ("profile_updates.stream_id",)),
    "push_rules_stream_sequence": ("push_rules_stream", ("push_rules_stream.stream_id",)),
    "pushers_sequence": ("pushers", ("pushers.id", "deleted_pushers.stream_id")),
    "quarantined_media_id_seq": ("quarantined_media", ("quarantined_media_changes.stream_id",)),
    "receipts_sequence": ("receipts", ("receipts_linearized.stream_id",)),
    "sticky_events_sequence": ("sticky_events", ("sticky_events.stream_id",)),
    "thread_subscriptions_sequence": ("thread_subscriptions", ("thread_subscriptions.stream_id",)),
    "un_partial_stated_event_stream_sequence": (
        "un_partial_stated_event_stream",
        ("un_partial_stated_event_stream.stream_id",),
    ),
    "un_partial_stated_room_stream_sequence": (
        "un_partial_stated_room_stream",
        ("un_partial_stated_room_stream.stream_id",),
    ),
}
#: Its tables of all streams, and the columns of their numbers and names.
_POSITIONS = "stream_positions.stream_id"
_STREAM = "stream_name"

SEQUENCES: FreeSequences = {
    **{
        name: (*map(Numbers, columns), Numbers(_POSITIONS, where=(_STREAM, stream)))
        for name, (stream, columns) in _STREAMS.items()
    },
    # Events of before those that it has: they count down from -1, and the sequence up from 1.
    "events_backfill_stream_seq": (
        Numbers("events.stream_ordering", negated=True),
        Numbers("ex_outlier_stream.event_stream_ordering", negated=True),
        Numbers(_POSITIONS, negated=True, where=(_STREAM, "backfill")),
    ),
    "application_services_txn_id_seq": (Numbers("application_services_txns.txn_id"),),
    "event_auth_chain_id": (Numbers("event_auth_chains.chain_id"),),
    "state_group_id_seq": (Numbers("state_groups.id"),),
    # People who chose no name: @12:example.org
    "user_id_seq": (Numbers("users.name", pattern="^@([0-9]+):"),),
    "cache_invalidation_stream_seq": (),  # of a table that only Postgres has, for caches that are empty then
}
#: Virtual tables, and what they find; in Postgres they are tables of another form.
MADE_OF = {
    "event_search": "events and event_json",
    "user_directory_search": "user_directory",
}
HINT = (
    "Synapse tries again and again to write: at the switch, keep it from the file with `mirror cutover advance --fence"
    " abort`, or stop it before (`--wait`, and then `mirror cutover go`); what it finds by search in Postgres is to be"
    " built by --after-copy before it starts there"
)
