-- @ title = "LuaSQL (Debian)"
-- @ apt = ["lua5.4", "lua-sql-sqlite3"]
-- @ [modes]
-- @ "wal" = "equal"
-- @ "delete" = "equal"
local driver = require("luasql.sqlite3")
local env = driver.sqlite3()
local db = env:connect(arg[1])
io.stdout:setvbuf("line")
local asked = db:execute("select sqlite_version()")
print("ready " .. (driver._VERSION:match("[%d.]+") or "-") .. " " .. asked:fetch())
asked:close()
for line in io.lines() do
  local done, message = db:execute(line)
  if type(done) == "userdata" then
    while done:fetch() do end
    pcall(done.close, done)
  end
  if done then print("ok") else print("error " .. message:gsub("\n", " ")) end
end
db:close()
env:close()
