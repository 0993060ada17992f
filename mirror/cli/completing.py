"""What a shell completes: the scripts that `mirror completion` prints, and the answers that they ask for.

A script runs ``mirror`` at each press of the key, with the words that were typed so far in the environment: that must
take no time. So the words are matched with commands that are made up of ``commands.json`` (:mod:`mirror.cli.groups`),
with no code behind them, and nothing of the mirror is loaded. Only where a source is wanted, the settings and the state
directory are looked at for those that are known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, get_completion_class
from click.shell_completion import shell_complete as answer

from mirror.cli.groups import ASKED, Commands, known_commands

SHELLS = ("bash", "zsh", "fish")


class _Bash(BashComplete):
    """As click has it, and names of files are offered beside sources that are known, and quoted where they must be.

    Works also with version 3.2, that of macOS, which has no ``compopt``: it does not quote what is offered.
    """

    source_template = """\
%(complete_func)s() {
    local kind line value each
    COMPREPLY=()
    while IFS= read -r line; do
        kind=${line%%%%,*} value=${line#*,}
        case $kind in
            plain) COMPREPLY+=("$value") ;;
            file|dir)
                while IFS= read -r each; do
                    COMPREPLY+=("$each")
                done < <(compgen -A "${kind/dir/directory}" -- "$value")
                ;;
        esac
        # Have bash quote what is offered, and put a slash behind a folder.
        case $line in plain,--*) ;; file,*|dir,*|*" "*) compopt -o filenames 2> /dev/null ;; esac
    done < <(env COMP_WORDS="$(printf '%%s\\n' "${COMP_WORDS[@]}")" COMP_CWORD="$COMP_CWORD" \\
        %(complete_var)s=bash_complete "$1" 2> /dev/null)
}
complete -F %(complete_func)s %(prog_name)s
"""

    def source(self) -> str:
        """The script. (Click's method asks bash for its version, too, which must not be the one that it is for.)"""
        return self.source_template % self.source_vars()

    def get_completion_args(self) -> tuple[list[str], str]:
        """As always; bash tells ``--name=value`` as three words."""
        words, incomplete = super().get_completion_args()
        return [word for word in words if word != "="], incomplete


add_completion_class(_Bash)


def script(shell: str) -> str:
    """The script for one of :data:`SHELLS`."""
    made = get_completion_class(shell)
    assert made is not None
    return made(made_up(), {}, "mirror", ASKED).source()


def complete(asked: str) -> int:
    """Answer a script: print what fits. ``asked``: what it wants, as ``bash_complete``. Returns the exit code."""
    return answer(made_up(), {}, "mirror", ASKED, asked)


def made_up() -> click.Group:
    """The commands as far as they can be told without loading any."""
    version = click.Option(["--version"], is_flag=True)
    settings = {"help_option_names": ["-h", "--help"]}
    return Commands("mirror", _commands(known_commands()), params=[version], context_settings=settings)


def _commands(known: Mapping[str, Any]) -> dict[str, click.Command]:
    made: dict[str, click.Command] = {}
    for name, command in known.items():
        repeated = command.get("repeated", ())
        params: list[click.Parameter] = [
            click.Option(names.split(", "), is_flag=value == "flag", type=_type(value), multiple=names in repeated)
            for names, value in command["options"].items()
        ]
        if (takes := command.get("takes")) == "source":
            params.append(click.Argument(["sources"], nargs=-1, shell_complete=_sources))
        elif takes is not None:
            params.append(click.Argument(["words"], nargs=-1, type=_type(takes)))
        if "commands" in command:
            made[name] = Commands(name, _commands(command["commands"]), params=params, short_help=command["summary"])
        else:
            made[name] = click.Command(name, params=params, short_help=command["summary"])
    return made


def _type(value: str | list[str]) -> click.ParamType[Any] | None:
    if isinstance(value, list):
        return click.Choice(value)
    return {"file": click.Path(), "folder": click.Path(file_okay=False)}.get(value)


def _sources(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The sources that are known and begin so, and any file."""
    found = [CompletionItem(path) for path in _known_sources(context.params) if path.startswith(begun)]
    return [*found, CompletionItem(begun, type="file")]


def _known_sources(given: Mapping[str, Any]) -> Iterator[str]:
    """The paths of those in mirror.json and in the state directory. ``given``: the options that were typed."""
    from mirror.core.config.settings import load_settings
    from mirror.core.errors import MirrorError
    from mirror.core.folders import known_sources

    with suppress(MirrorError):  # the command itself will say it
        settings = load_settings([], None, given.get("state_dir"), None, given.get("config"), lenient=True)
        yield from dict.fromkeys(map(str, (*settings.sources, *known_sources(settings.state_dir))))
