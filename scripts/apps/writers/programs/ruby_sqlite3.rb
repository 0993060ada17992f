# @ title = "Ruby sqlite3 (Debian)"
# @ apt = ["ruby-sqlite3"]
# @ [modes]
# @ "wal" = "equal"
# @ "delete" = "equal"
require "sqlite3"
$stdout.sync = true
$stdin.set_encoding("UTF-8")
db = SQLite3::Database.new(ARGV[0])
puts "ready #{SQLite3::VERSION} #{db.get_first_value('select sqlite_version()')}"
while (line = $stdin.gets)
  begin
    db.execute(line.strip)
    puts "ok"
  rescue SQLite3::Exception => error
    puts "error #{error.message.tr("\n", ' ')}"
  end
end
db.close
