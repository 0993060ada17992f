-- One adapter has jobs for several agents, as it has tasks: agent_id says whose row it is, source_agent_id who does it.
ALTER TABLE job_assignments ADD COLUMN source_agent_id text COLLATE "C";
ALTER TABLE job_runs ADD COLUMN source_agent_id text COLLATE "C";
UPDATE job_assignments SET source_agent_id = agent_id;
UPDATE job_runs SET source_agent_id = agent_id;
ALTER TABLE job_assignments ALTER COLUMN source_agent_id SET NOT NULL;
ALTER TABLE job_runs ALTER COLUMN source_agent_id SET NOT NULL;
CREATE INDEX job_assignments_agent ON job_assignments (agent_id, source_agent_id);

-- Lists are JSON, as they are in all other tables.
ALTER TABLE service_keys
    ALTER COLUMN allowed_roles DROP DEFAULT, ALTER COLUMN allowed_roles TYPE jsonb USING to_jsonb(allowed_roles),
    ALTER COLUMN allowed_roles SET DEFAULT '[]',
    ALTER COLUMN allowed_agents DROP DEFAULT, ALTER COLUMN allowed_agents TYPE jsonb USING to_jsonb(allowed_agents),
    ALTER COLUMN allowed_agents SET DEFAULT '[]',
    ALTER COLUMN allowed_teams DROP DEFAULT, ALTER COLUMN allowed_teams TYPE jsonb USING to_jsonb(allowed_teams),
    ALTER COLUMN allowed_teams SET DEFAULT '[]';
