# @ title = "Perl DBD::SQLite (Debian)"
# @ apt = ["libdbd-sqlite3-perl"]
# @ [modes]
# @ "wal" = "equal"
# @ "delete" = "equal"
# @ "persist" = "equal"
use strict;
use DBI;
use DBD::SQLite;
$| = 1;
my $db = DBI->connect("dbi:SQLite:dbname=$ARGV[0]", "", "", { RaiseError => 1, PrintError => 0, AutoCommit => 1 });
my ($version) = $db->selectrow_array("select sqlite_version()");
print "ready $DBD::SQLite::VERSION $version\n";
while (my $line = <STDIN>) {
    chomp $line;
    eval { $db->do($line); };
    print $@ ? "error " . ($@ =~ s/\n/ /gr) . "\n" : "ok\n";
}
$db->disconnect;
