# What setup-postgres.sh and setup-redis.sh share; both source it. Not a program.
# shellcheck shell=bash

# 1: print what would be done, and do nothing.
dry_run=0

say() {
    printf '%s\n' "$*"
}

# fail WHAT [NEXT STEP]: ends the script.
fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    if [[ -n ${2-} ]]; then
        printf '  next: %s\n' "$2" >&2
    fi
    exit 1
}

# run COMMAND...: does it, or prints it.
run() {
    if ((dry_run)); then
        printf '+'
        printf ' %q' "$@"
        printf '\n'
    else
        "$@"
    fi
}

# as_root COMMAND...: runs it with root's rights.
as_root() {
    if ((EUID == 0)); then
        run "$@"
    else
        run sudo "$@"
    fi
}

# write_file PATH COMMAND...: makes a file of standard input; COMMAND (as_root, run) is what may write there.
write_file() {
    local path=$1
    shift
    if ((dry_run)); then
        printf '+ write %q:\n' "$path"
        sed 's/^/|   /'
    else
        "$@" tee "$path" >/dev/null
    fi
}

# is_port NUMBER
is_port() {
    [[ $1 =~ ^[0-9]{1,5}$ ]] && ((10#$1 >= 1 && 10#$1 <= 65535))
}

# answers PORT: whether something on this machine takes connections there.
answers() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null || (exec 3<>"/dev/tcp/::1/$1") 2>/dev/null
}

# holder PORT: the process that listens there, as far as this user may know.
holder() {
    local found=""
    if command -v ss >/dev/null; then
        found=$(ss -Hltnp "sport = :$1" 2>/dev/null | sed -n 's/.*users:((\(.*\)))$/\1/p' | head -n 1)
    fi
    if [[ -z $found ]] && command -v lsof >/dev/null; then
        found=$(lsof -nP -iTCP:"$1" -sTCP:LISTEN 2>/dev/null | awk 'NR == 2 { print $1 ", pid " $2 ", user " $3 }')
    fi
    printf '%s' "${found:-a process that only root can see}"
}

# require_free PORT
require_free() {
    if answers "$1"; then
        fail "port $1 is taken by: $(holder "$1"). It is left as it is" \
            "choose another one with --port, or end that program"
    fi
}

# show_log FILE [COMMAND...]: the last lines of a server's log, on stderr; COMMAND (as_root) is what may read it.
show_log() {
    local log=$1
    shift
    printf 'The last lines of %s:\n' "$log" >&2
    "$@" tail -n 20 "$log" 2>/dev/null | sed 's/^/|   /' >&2 || true
}

# value OPTION [VALUE]: the value of an option that needs one.
value() {
    if [[ -z ${2-} ]]; then
        fail "$1 needs a value" "${0##*/} --help"
    fi
    printf '%s' "$2"
}

# system: brew (macOS) or apt (Debian, Ubuntu); ends the script elsewhere. $1: what to do by hand there.
system() {
    if [[ $(uname -s) == Darwin ]]; then
        command -v brew >/dev/null || fail "Homebrew is not installed" "install Homebrew, then run this again"
        if ((EUID == 0)); then
            fail "Homebrew does not run as root" "run this as the user who owns Homebrew"
        fi
        printf brew
    elif command -v apt-get >/dev/null; then
        printf apt
    else
        fail "this is neither macOS nor a system with apt" "$1"
    fi
}

# is_installed PACKAGE: whether apt has installed it.
is_installed() {
    [[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null) == ii* ]]
}

# is_offered PACKAGE: whether an archive that apt knows has it.
is_offered() {
    [[ -n $(apt-cache show --no-all-versions "$1" 2>/dev/null) ]]
}

# install PACKAGE...: by apt, without questions. Programs that need a restart are left alone.
install() {
    as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l apt-get install -y --no-install-recommends "$@"
}
