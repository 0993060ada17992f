# @ title = "Tcl sqlite3 (Debian)"
# @ apt = ["tcl", "libsqlite3-tcl"]
# @ [modes]
# @ "wal" = "equal"
# @ "wal later" = "equal"
# @ "delete" = "equal"
package require sqlite3
fconfigure stdin -encoding utf-8
sqlite3 db [lindex $argv 0]
puts "ready [package require sqlite3] [sqlite3 -version]"
flush stdout
while {[gets stdin line] >= 0} {
    if {[catch {db eval $line} message]} {
        puts "error [string map {"\n" " "} $message]"
    } else {
        puts "ok"
    }
    flush stdout
}
db close
