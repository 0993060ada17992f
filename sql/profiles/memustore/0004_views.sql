-- The documented names. security_invoker: row security applies to whoever asks the view, not to its owner.
-- Each is a plain projection of one table, so that it can be written to like the table.

CREATE VIEW categories WITH (security_invoker = true) AS
    SELECT agent_id, id, name, description, embedding, summary, created_at, updated_at, visibility
      FROM memory_categories;

CREATE VIEW item_categories WITH (security_invoker = true) AS
    SELECT agent_id, item_id, category_id FROM category_items;

CREATE VIEW live_candidates WITH (security_invoker = true) AS
    SELECT agent_id, id, session_key, message_id, role, candidate_type, fact_text, fact_hash, confidence,
           trigger_flags, entities, memory_type_hint, significance_hint, source_ts, expires_at, status,
           promoted_item_id, promotion_reason, created_at, updated_at
      FROM live_memory_candidates;

GRANT SELECT, INSERT, UPDATE, DELETE ON categories, item_categories, live_candidates TO argent_app;
