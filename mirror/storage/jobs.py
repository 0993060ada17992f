"""The methods of ``adapter.jobs``: recurring work, its reviews, and events. In Postgres alone."""

from __future__ import annotations

from mirror.storage.facade import AsyncMethods, Methods, acall, call
from mirror.storage.operations import job_runs, job_tasks, jobs


class Jobs(Methods):
    """Templates of work, who does it and how often, its runs, and events that cause it."""

    create_template = call(jobs.create_template)
    list_templates = call(jobs.list_templates)
    get_template = call(jobs.get_template)
    update_template = call(jobs.update_template)
    create_assignment = call(jobs.create_assignment)
    list_assignments = call(jobs.list_assignments)
    get_assignment = call(jobs.get_assignment)
    update_assignment = call(jobs.update_assignment)
    get_context_for_task = call(jobs.get_context_for_task)
    ensure_due_tasks = call(job_tasks.ensure_due_tasks)
    create_run = call(job_runs.create_run)
    review_run = call(job_runs.review_run)
    complete_run_for_task = call(job_runs.complete_run_for_task)
    list_runs = call(job_runs.list_runs)
    resolve_session_tool_policy_for_assignment = call(jobs.resolve_session_tool_policy_for_assignment)
    enqueue_event = call(job_runs.enqueue_event)
    list_events = call(job_runs.list_events)
    ensure_event_tasks = call(job_tasks.ensure_event_tasks)


class AsyncJobs(AsyncMethods):
    """:class:`Jobs`, as coroutines."""

    create_template = acall(jobs.create_template)
    list_templates = acall(jobs.list_templates)
    get_template = acall(jobs.get_template)
    update_template = acall(jobs.update_template)
    create_assignment = acall(jobs.create_assignment)
    list_assignments = acall(jobs.list_assignments)
    get_assignment = acall(jobs.get_assignment)
    update_assignment = acall(jobs.update_assignment)
    get_context_for_task = acall(jobs.get_context_for_task)
    ensure_due_tasks = acall(job_tasks.ensure_due_tasks)
    create_run = acall(job_runs.create_run)
    review_run = acall(job_runs.review_run)
    complete_run_for_task = acall(job_runs.complete_run_for_task)
    list_runs = acall(job_runs.list_runs)
    resolve_session_tool_policy_for_assignment = acall(jobs.resolve_session_tool_policy_for_assignment)
    enqueue_event = acall(job_runs.enqueue_event)
    list_events = acall(job_runs.list_events)
    ensure_event_tasks = acall(job_tasks.ensure_event_tasks)
