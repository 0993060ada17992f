#!/usr/bin/env bash
# A Postgres of its own for the mirror: see --help.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=setup-common.sh
source "$here/setup-common.sh"

usage() {
    cat <<'END'
usage: scripts/setup-postgres.sh [OPTION]...

Makes a Postgres server for the mirror, apart from any other on this machine: with pgvector, a role that is no
superuser, and a database that belongs to it. It listens on this machine only. macOS by Homebrew, Debian and Ubuntu by
apt. What is there already is left as it is, so it is safe to run twice; a server that this script has not made is
neither changed nor stopped.

  --dry-run           print what would be done, and do nothing
  --port PORT         5433
  --version NUMBER    of Postgres, 15 or newer; 17
  --name NAME         of the role and the database, and of Debian's cluster; mirror
  --data DIR          with Homebrew: where the server keeps its files; ~/.argentos/postgres
  --pgdg              with apt: add the PostgreSQL project's own archive, where the system's lacks a package
  --without-pgvector  for files without vectors: a MemuStore needs it
  --new-password      give the role another password
  --help

The role's password is made up here, and kept in ~/.pgpass, where Postgres' clients look for it.
END
}

port=5433 version=17 name=mirror data=${HOME:?}/.argentos/postgres pgdg=0 vector=1 new_password=0
while (($#)); do
    case $1 in
        --dry-run) dry_run=1 ;;
        --port) port=$(value "$@") && shift ;;
        --version) version=$(value "$@") && shift ;;
        --name) name=$(value "$@") && shift ;;
        --data) data=$(value "$@") && shift ;;
        --pgdg) pgdg=1 ;;
        --without-pgvector) vector=0 ;;
        --new-password) new_password=1 ;;
        --help | -h) usage && exit ;;
        *) fail "unknown option: $1" "${0##*/} --help" ;;
    esac
    shift
done
is_port "$port" || fail "$port is not a port"
if ! [[ $version =~ ^[0-9]{2}$ ]] || ((version < 15)); then
    fail "$version is not a version of Postgres that the mirror takes" "name 15 or a newer one"
fi
# It is an identifier in SQL, and a part of paths.
[[ $name =~ ^[a-z][a-z0-9_]{0,30}$ ]] || fail "the name must be a small letter, then small letters, digits and _: $name"
[[ $data == /* ]] || data=$PWD/$data

# The setting by which a server is known as one that this script has made; Postgres itself knows nothing of it.
mark="mirror.made_by"

# -- Debian and Ubuntu: a cluster of postgresql-common -------------------------------------------------------------

archive_lacks() {
    local found="" id=""
    if [[ -r /etc/os-release ]]; then
        # shellcheck source=/dev/null # it is another file on each system
        id=$(. /etc/os-release && printf '%s' "${PRETTY_NAME-}")
    fi
    if [[ $id == *"Linux 12"* ]]; then
        found=" (Debian 12 has Postgres 15, and no pgvector for any)"
    fi
    fail "the archives of ${id:-this system} lack: $*$found" \
        "run this with --pgdg: it adds the PostgreSQL project's own apt archive, which has both, for Debian and Ubuntu"
}

install_by_apt() {
    local wanted=("postgresql-$version") missing=() lacking=() package
    if ((vector)); then
        wanted+=("postgresql-$version-pgvector")
    fi
    for package in "${wanted[@]}"; do
        is_installed "$package" || missing+=("$package")
    done
    if ((${#missing[@]} == 0)); then
        return
    fi
    as_root apt-get update -q
    for package in "${missing[@]}"; do
        is_offered "$package" || lacking+=("$package")
    done
    if ((${#lacking[@]} && !pgdg)); then
        archive_lacks "${lacking[@]}"
    fi
    install postgresql-common ca-certificates
    if ((${#lacking[@]})); then
        as_root /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y
    fi
    # The package would make and start a cluster "main", which nobody has asked for.
    local no_main=/etc/postgresql-common/createcluster.d/mirror-setup.conf
    as_root mkdir -p "${no_main%/*}"
    write_file "$no_main" as_root <<<"create_main_cluster = false"
    local installed=0
    install "${missing[@]}" || installed=$?
    as_root rm -f "$no_main"
    if ((installed)); then
        fail "apt could not install ${missing[*]}" "its lines above say why"
    fi
}

# cluster COLUMN: of pg_lsclusters, empty if there is no such cluster: 3 port, 4 status, 7 log.
cluster() {
    command -v pg_lsclusters >/dev/null || return 0
    pg_lsclusters -h | awk -v version="$version" -v name="$name" -v column="$1" \
        '$1 == version && $2 == name { print $column }'
}

setup_by_apt() {
    local configuration=/etc/postgresql/$version/$name log=/var/log/postgresql/postgresql-$version-$name.log
    socket=/var/run/postgresql
    if [[ -n $(cluster 3) ]]; then
        if ! as_root_reads "$configuration/postgresql.conf"; then
            fail "there is a cluster $version/$name, which this script has not made. It is left as it is" \
                "choose another name with --name"
        fi
        if [[ $(cluster 3) != "$port" ]]; then
            fail "the cluster $version/$name has port $(cluster 3), not $port" \
                "give --port $(cluster 3), or a cluster of another --name"
        fi
    else
        require_free "$port"
        local other
        other=$(pg_lsclusters -h 2>/dev/null | awk -v port="$port" '$3 == port { print $1 "/" $2 }')
        [[ -z $other ]] || fail "port $port is the cluster $other's, which does not run now" "choose another one with --port"
    fi
    install_by_apt
    if [[ -z $(cluster 3) ]]; then
        as_root pg_createcluster "$version" "$name" --port "$port" --start-conf auto \
            --pgoption listen_addresses=localhost --pgoption "$mark=setup_postgres" -- \
            --encoding=UTF8 --locale=C.UTF-8 --data-checksums --auth-local=peer --auth-host=scram-sha-256
    fi
    if [[ $(cluster 4) != online* ]]; then
        require_free "$port"
        if ! as_root pg_ctlcluster "$version" "$name" start; then
            show_log "$log" as_root
            fail "Postgres does not start" "the log says why; this script can be run again"
        fi
    fi
}

# Its folder may be closed to others than postgres.
as_root_reads() {
    if ((EUID == 0)); then
        grep -qsF "$mark" "$1"
    else
        sudo grep -qsF "$mark" "$1"
    fi
}

# -- macOS: a directory of our own, with Homebrew's programs -------------------------------------------------------

install_by_brew() {
    local wanted=("postgresql@$version") package
    if ((vector)); then
        wanted+=(pgvector)
    fi
    for package in "${wanted[@]}"; do
        if [[ -z $(brew list --versions "$package" 2>/dev/null) ]]; then
            run brew install "$package"
        fi
    done
}

own_settings() {
    cat <<END
port = $port
listen_addresses = 'localhost'
unix_socket_directories = '${data//\'/\'\'}'
unix_socket_permissions = 0700
$mark = setup_postgres
END
}

# Makes the server's directory, beside its place first, so that it is there whole or not at all.
make_directory() {
    local new=$data.new
    # Whoever reaches the socket is trusted: only this user can, by the directory's rights.
    local initdb=(initdb --username=postgres --encoding=UTF8 --no-locale --data-checksums
        --auth-local=trust --auth-host=scram-sha-256 "--pgdata=$new")
    if ((dry_run)); then
        run "${initdb[@]}"
        own_settings | write_file "$new/postgresql.conf (at its end)"
        run mv "$new" "$data"
        return
    fi
    mkdir -p "${data%/*}"
    mkdir -m 700 "$new" || fail "a directory for a new server is there" "if no other setup-postgres.sh runs, remove $new"
    if ! "${initdb[@]}" >"$new.log" 2>&1; then
        show_log "$new.log"
        rm -rf "$new" "$new.log"
        fail "the server's directory could not be made" "the lines above say why"
    fi
    rm "$new.log"
    own_settings >>"$new/postgresql.conf"
    [[ ! -d $data ]] || rmdir "$data"
    mv "$new" "$data"
}

setup_by_brew() {
    local log=$data/server.log conf=$data/postgresql.conf has
    socket=$data
    if [[ -e $data/PG_VERSION ]]; then
        if ! grep -qs "^$mark = " "$conf"; then
            fail "$data belongs to a server that this script has not made. It is left as it is" \
                "choose another directory with --data"
        fi
        has=$(<"$data/PG_VERSION")
        [[ $has == "$version" ]] || fail "$data was made by Postgres $has" "give --version $has, or another --data"
        has=$(sed -n 's/^port = //p' "$conf")
        [[ $has == "$port" ]] || fail "the server in $data has port $has, not $port" "give --port $has, or another --data"
    elif [[ -d $data && -n $(ls -A "$data") ]]; then
        fail "$data is not empty, and no server's directory" "choose another directory with --data"
    else
        require_free "$port"
    fi
    install_by_brew
    bin=$(brew --prefix "postgresql@$version")/bin
    PATH=$bin:$PATH
    [[ -e $data/PG_VERSION ]] || make_directory
    if ((dry_run)) || ! pg_ctl --pgdata="$data" status >/dev/null; then
        require_free "$port"
        # Its standard descriptors are closed: it outlives this script, and whoever reads from that.
        if ! run pg_ctl --pgdata="$data" --log="$log" --silent --wait start </dev/null >/dev/null; then
            show_log "$log"
            fail "Postgres does not start" "the log says why; this script can be run again"
        fi
    fi
}

# -- role, database, extension -------------------------------------------------------------------------------------

# as_superuser DATABASE [OPTION]...: psql with SQL from standard input, over the server's own socket.
as_superuser() {
    local database=$1 user=()
    shift
    if [[ $system == apt ]]; then
        user=(sudo -u postgres)
        if ((EUID == 0)); then
            user=(runuser -u postgres --)
        fi
    fi
    # From a folder that postgres may enter; nobody's ~/.psqlrc and settings.
    (cd / && unset "${!PG@}" && ${user[@]+"${user[@]}"} psql --no-psqlrc --quiet --tuples-only --no-align \
        --set=ON_ERROR_STOP=1 --host="$socket" --port="$port" --username=postgres --dbname="$database" "$@")
}

# in_sql DATABASE: runs SQL from standard input, or prints it.
in_sql() {
    if ((dry_run)); then
        printf '+ in %s, as its superuser:\n' "$1"
        sed 's/^/|   /'
    else
        as_superuser "$@"
    fi
}

# has DATABASE QUERY: whether it returns a row. Nothing is there yet in a dry run that would make the server.
has() {
    ((server)) && [[ -n $(as_superuser "$1" <<<"$2") ]]
}

pgpass=${PGPASSFILE:-$HOME/.pgpass}
host=127.0.0.1

keeps_password() {
    grep -qs "^$host:$port:$name:$name:" "$pgpass"
}

# The first line that fits counts, so it comes before those that are there.
keep_password() {
    (
        umask 077
        mkdir -p "${pgpass%/*}"
        printf '%s:%s:%s:%s:%s\n' "$host" "$port" "$name" "$name" "$1" >"$pgpass.new"
        if [[ -e $pgpass ]]; then
            sed "/^$host:$port:$name:$name:/d" "$pgpass" >>"$pgpass.new"
        fi
        mv "$pgpass.new" "$pgpass"
    )
}

make_role() {
    local password verb=CREATE rights="LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
    if has postgres "SELECT 1 FROM pg_roles WHERE rolname = '$name'"; then
        if ((!new_password)); then
            keeps_password || fail "the role $name has a password that $pgpass does not have" \
                "run this as the user who has it, or with --new-password, which gives it another one"
            return
        fi
        verb=ALTER
    fi
    if ((dry_run)); then
        say "+ write a password that is made up now to $pgpass (0600)"
        in_sql postgres <<<"$verb ROLE \"$name\" $rights PASSWORD (that one);"
        return
    fi
    password=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
    keep_password "$password"
    # By standard input, and not into the server's log: a command line can be read by everybody.
    in_sql postgres <<END
SET log_statement = 'none'; SET log_min_duration_statement = -1; SET log_min_error_statement = 'panic';
SET password_encryption = 'scram-sha-256';
$verb ROLE "$name" $rights PASSWORD '$password';
END
}

make_database() {
    # Of MemuStores that several agents share: programs log in as this role, and the mirror's may not make it.
    if ! has postgres "SELECT 1 FROM pg_roles WHERE rolname = 'argent_app'"; then
        in_sql postgres <<END
CREATE ROLE argent_app LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
END
    fi
    if ! has postgres "SELECT 1 FROM pg_database WHERE datname = '$name'"; then
        in_sql postgres <<END
CREATE DATABASE "$name" OWNER "$name" TEMPLATE template0 ENCODING 'UTF8';
END
    fi
    if ((vector)) && ! has "$name" "SELECT 1 FROM pg_extension WHERE extname = 'vector'"; then
        in_sql "$name" <<END
CREATE EXTENSION vector;
END
    fi
}

# ------------------------------------------------------------------------------------------------------------------

system=$(system "install Postgres $version and pgvector there, make a role and a database, and name them in ARGENT_PG_URL")
"setup_by_$system"
# Whether there is one to ask: in a dry run only one that runs already.
server=1
if ((dry_run)) && ! as_superuser postgres <<<"SELECT 1" >/dev/null 2>&1; then
    server=0
fi
make_role
make_database

dsn="host=$host port=$port user=$name dbname=$name"
if ((dry_run)); then
    say "Nothing was done (--dry-run)."
    exit
fi
if ! (unset "${!PG@}" && PGPASSFILE=$pgpass psql --no-psqlrc --no-password -Atqc "SELECT 1" "$dsn connect_timeout=10" >/dev/null); then
    fail "the server runs, but the role $name cannot log in as $pgpass says" "run this with --new-password"
fi
say "Postgres: $dsn"
say "Its password is in $pgpass."
say "Next: export ARGENT_PG_URL='$dsn'; mirror doctor FILE.db"
