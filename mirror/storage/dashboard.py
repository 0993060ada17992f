"""The methods of ``adapter.tasks`` and ``adapter.teams``."""

from __future__ import annotations

from mirror.storage.facade import AsyncMethods, Methods, acall, call
from mirror.storage.operations import projects, tasks, teams


class Tasks(Methods):
    """Tasks, and projects of them."""

    create = call(tasks.create)
    get = call(tasks.get)
    update = call(tasks.update)
    delete = call(tasks.delete)
    list = call(tasks.list_)
    search = call(tasks.search)
    start = call(tasks.start)
    complete = call(tasks.complete)
    complete_and_resolve = call(tasks.complete_and_resolve)
    block = call(tasks.block)
    fail = call(tasks.fail)
    get_counts = call(tasks.get_counts)
    get_overdue = call(tasks.get_overdue)
    create_project = call(projects.create_project)
    list_projects = call(projects.list_projects)
    get_project_with_children = call(projects.get_project_with_children)


class AsyncTasks(AsyncMethods):
    """:class:`Tasks`, as coroutines."""

    create = acall(tasks.create)
    get = acall(tasks.get)
    update = acall(tasks.update)
    delete = acall(tasks.delete)
    list = acall(tasks.list_)
    search = acall(tasks.search)
    start = acall(tasks.start)
    complete = acall(tasks.complete)
    complete_and_resolve = acall(tasks.complete_and_resolve)
    block = acall(tasks.block)
    fail = acall(tasks.fail)
    get_counts = acall(tasks.get_counts)
    get_overdue = acall(tasks.get_overdue)
    create_project = acall(projects.create_project)
    list_projects = acall(projects.list_projects)
    get_project_with_children = acall(projects.get_project_with_children)


class Teams(Methods):
    """Teams of sessions, and their members."""

    create = call(teams.create)
    get = call(teams.get)
    list = call(teams.list_)
    add_member = call(teams.add_member)
    remove_member = call(teams.remove_member)
    update_member_status = call(teams.update_member_status)
    disband = call(teams.disband)
    get_team_for_session = call(teams.get_team_for_session)
    get_members = call(teams.get_members)


class AsyncTeams(AsyncMethods):
    """:class:`Teams`, as coroutines."""

    create = acall(teams.create)
    get = acall(teams.get)
    list = acall(teams.list_)
    add_member = acall(teams.add_member)
    remove_member = acall(teams.remove_member)
    update_member_status = acall(teams.update_member_status)
    disband = acall(teams.disband)
    get_team_for_session = acall(teams.get_team_for_session)
    get_members = acall(teams.get_members)
