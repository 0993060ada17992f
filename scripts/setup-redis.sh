#!/usr/bin/env bash
# A Redis or Valkey of its own for the mirror: see --help.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=setup-common.sh
source "$here/setup-common.sh"

usage() {
    cat <<'END'
usage: scripts/setup-redis.sh [OPTION]...

Makes a Redis server for the mirror, apart from any other on this machine, and starts it: Redis or Valkey, whichever is
installed, or else by Homebrew on macOS, by apt on Debian and Ubuntu. It writes each change to a file (append-only),
never evicts what it holds (noeviction), and listens on this machine only. What is there already is left as it is, so it
is safe to run twice; a server that this script has not made is neither changed nor stopped.

  --dry-run    print what would be done, and do nothing
  --port PORT  6380
  --data DIR   where it keeps its files; ~/.argentos/redis, for root /var/lib/mirror-redis
  --user NAME  for root: whom the server runs as; the user of the package, redis or valkey
  --help
END
}

port=6380 data="" user=""
while (($#)); do
    case $1 in
        --dry-run) dry_run=1 ;;
        --port) port=$(value "$@") && shift ;;
        --data) data=$(value "$@") && shift ;;
        --user) user=$(value "$@") && shift ;;
        --help | -h) usage && exit ;;
        *) fail "unknown option: $1" "${0##*/} --help" ;;
    esac
    shift
done
is_port "$port" || fail "$port is not a port"
if ((EUID)) && [[ -n $user ]]; then
    fail "only root can choose the user that the server runs as" "leave out --user"
fi
if [[ -z $data ]]; then
    data=/var/lib/mirror-redis
    ((EUID == 0)) || data=${HOME:?}/.argentos/redis
fi
[[ $data == /* ]] || data=$PWD/$data
if [[ $data == *[\"\\]* || $data == *$'\n'* ]]; then
    fail "the directory's name has a quote, a backslash or a new line" "choose another one with --data"
fi
conf=$data/redis.conf log=$data/redis.log

# The line by which a server is known as one that this script has made.
mark="# Made by scripts/setup-redis.sh of mirror."

# info KEY: a value that the server on the port gives; empty if it is no Redis that answers this user.
info() {
    local line
    {
        exec 3<>"/dev/tcp/127.0.0.1/$port" || return 0
    } 2>/dev/null
    printf 'INFO server\r\nQUIT\r\n' >&3 2>/dev/null || true
    while IFS= read -r -t 5 line <&3; do
        line=${line%$'\r'}
        if [[ $line == "$1":* ]]; then
            printf '%s' "${line#"$1":}"
            break
        fi
    done
    exec 3>&-
}

is_ours() {
    [[ $(info config_file) == "$conf" ]]
}

# find_server: path of the program that is installed; empty if none is.
find_server() {
    command -v valkey-server || command -v redis-server || true
}

# In a dry run: the program and the user that the package would have brought; empty if none is to be installed.
coming_server="" coming_user=""

install_server() {
    local system package
    system=$(system "install Redis or Valkey there, and run this again")
    if [[ $system == brew ]]; then
        run brew install valkey
        coming_server=$(brew --prefix)/bin/valkey-server
        return
    fi
    as_root apt-get update -q
    package=redis-server
    if is_offered valkey-server; then
        package=valkey-server
    fi
    if ! is_offered "$package"; then
        ((!dry_run)) || fail "apt knows no valkey-server or redis-server yet" "run apt-get update: a dry run does not"
        fail "no archive that apt knows has valkey-server or redis-server"
    fi
    install "$package"
    coming_server=/usr/bin/$package coming_user=${package%-server}
    # The package starts one with its own settings, which nobody has asked for.
    if [[ -d /run/systemd/system ]]; then
        as_root systemctl disable --now "$package.service"
    else
        as_root update-rc.d "$package" disable
        as_root "/etc/init.d/$package" stop || true
    fi
}

# is_user NAME
is_user() {
    id "$1" >/dev/null 2>&1 || [[ $dry_run == 1 && $1 == "$coming_user" ]]
}

settings() {
    cat <<END
$mark
# program: $server
bind 127.0.0.1 -::1
protected-mode yes
port $port
dir "$data"
appendonly yes
appendfsync everysec
maxmemory-policy noeviction
logfile "$log"
pidfile "$data/redis.pid"
END
}

# as_owner COMMAND...: as the user whose the server is.
as_owner() {
    local group
    if [[ -n $user ]]; then
        # A package's user has a group of the same name.
        group=$(id -g "$user" 2>/dev/null) || group=$user
        run setpriv --reuid="$user" --regid="$group" --init-groups -- "$@"
    else
        run "$@"
    fi
}

start() {
    local pid
    if ((dry_run)); then
        as_owner nohup "$server" "$conf"
        return
    fi
    # It outlives this script and the terminal, and has no descriptor of whoever reads from this.
    said=$(mktemp)
    trap 'rm -f "$said"' EXIT
    cd /
    as_owner nohup "$server" "$conf" </dev/null >"$said" 2>&1 &
    pid=$!
    until is_ours; do
        if ! kill -0 "$pid" 2>/dev/null; then
            cat "$said" >&2
            show_log "$log"
            fail "the server does not start" "the log says why; this script can be run again"
        fi
        sleep 0.1
    done
}

if [[ -s $conf ]]; then
    if ! grep -qxF "$mark" "$conf"; then
        fail "$conf was not made by this script. It is left as it is" "choose another directory with --data"
    fi
    has=$(sed -n 's/^port //p' "$conf")
    [[ $has == "$port" ]] || fail "the server in $data has port $has, not $port" "give --port $has, or another --data"
elif [[ -d $data && -n $(find "$data" -mindepth 1 ! -name redis.conf.new) ]]; then
    fail "$data is not empty, and no server's directory" "choose another directory with --data"
fi
is_ours || require_free "$port"

server=$(sed -n 's/^# program: //p' "$conf" 2>/dev/null || true)
if [[ ! -x $server ]]; then
    server=$(find_server)
fi
if [[ -z $server ]]; then
    install_server
    server=$(find_server)
    if ((dry_run)); then
        server=$coming_server
    fi
    [[ -n $server ]] || fail "the package is installed, and neither valkey-server nor redis-server is in PATH"
fi
if ((EUID == 0)) && [[ -z $user ]]; then
    for each in redis valkey; do
        if is_user "$each"; then
            user=$each
        fi
    done
    [[ -n $user ]] || fail "there is no user redis or valkey that the server could run as" "name one with --user"
elif ((EUID == 0)); then
    is_user "$user" || fail "there is no user $user" "name another one with --user"
fi
if [[ ! -s $conf ]]; then
    run mkdir -p "${data%/*}"
    run mkdir -p -m 700 "$data"
    settings | write_file "$conf.new" run
    if [[ -n $user ]]; then
        run chown -R "$user": "$data"
    fi
    run mv "$conf.new" "$conf"
fi
if is_ours; then
    say "It runs already."
else
    start
fi
if ((dry_run)); then
    say "Nothing was done (--dry-run)."
    exit
fi
say "Redis: redis://127.0.0.1:$port/0"
say "It keeps its files in $data, and runs until it is stopped or the machine is."
next="mirror service install --server redis"
((EUID)) || next+=" --system"
[[ $data == */.argentos/redis || $data == /var/lib/mirror-redis ]] || next+=" --data $(printf %q "$data")"
say "Next: $next"
