"""``mirror completion``: print the script that has a shell complete what is typed."""

from __future__ import annotations

import click

from mirror.cli.completing import SHELLS, script
from mirror.cli.options import help_end


@click.command(
    short_help="Have the shell complete what is typed.",
    epilog=help_end(
        'eval "$(mirror completion bash)"  # in ~/.bashrc',
        'eval "$(mirror completion zsh)"   # in ~/.zshrc, after compinit',
        "mirror completion fish | source   # in ~/.config/fish/config.fish",
        codes={0: "the script was printed"},
    ),
)
@click.argument("shell", metavar="bash|zsh|fish", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that has a shell complete commands, options, files and the sources that are mirrored.

    Typed into a shell, the line for it below helps in that one; in the file named there, in each new one. The shell
    must find `mirror` by that name: activate the environment that it is installed in.
    """
    click.echo(script(shell), nl=False)
