"""Methods of ``adapter.memory`` for what an agent has come to know. In Postgres alone."""

from __future__ import annotations

from mirror.storage.facade import AsyncMethods, Methods, acall, call
from mirror.storage.operations import observations


class KnowledgeObservations(Methods):
    """Observations, and the evidence for them."""

    get_knowledge_observation = call(observations.get_knowledge_observation)
    list_knowledge_observations = call(observations.list_knowledge_observations)
    search_knowledge_observations = call(observations.search_knowledge_observations)
    get_knowledge_observation_evidence = call(observations.get_knowledge_observation_evidence)
    upsert_knowledge_observation = call(observations.upsert_knowledge_observation)
    supersede_knowledge_observation = call(observations.supersede_knowledge_observation)
    mark_knowledge_observation_stale = call(observations.mark_knowledge_observation_stale)
    invalidate_knowledge_observation = call(observations.invalidate_knowledge_observation)


class AsyncKnowledgeObservations(AsyncMethods):
    """:class:`KnowledgeObservations`, as coroutines."""

    get_knowledge_observation = acall(observations.get_knowledge_observation)
    list_knowledge_observations = acall(observations.list_knowledge_observations)
    search_knowledge_observations = acall(observations.search_knowledge_observations)
    get_knowledge_observation_evidence = acall(observations.get_knowledge_observation_evidence)
    upsert_knowledge_observation = acall(observations.upsert_knowledge_observation)
    supersede_knowledge_observation = acall(observations.supersede_knowledge_observation)
    mark_knowledge_observation_stale = acall(observations.mark_knowledge_observation_stale)
    invalidate_knowledge_observation = acall(observations.invalidate_knowledge_observation)
