# @ title = "R RSQLite (Debian)"
# @ apt = ["r-cran-rsqlite"]
# @ [modes]
# @ "wal" = "equal"
# @ "delete" = "equal"
library(DBI)
path <- commandArgs(trailingOnly = TRUE)[1]
db <- dbConnect(RSQLite::SQLite(), path, synchronous = NULL)
cat("ready", as.character(packageVersion("RSQLite")), RSQLite::rsqliteVersion()[["library"]], "\n")
input <- file("stdin", open = "r", encoding = "UTF-8")
while (length(line <- readLines(input, n = 1)) > 0) {
  answer <- tryCatch({
    if (startsWith(line, "PRAGMA")) dbGetQuery(db, line) else dbExecute(db, line)
    "ok"
  }, error = function(problem) paste("error", gsub("\n", " ", conditionMessage(problem))))
  cat(answer, "\n", sep = "")
}
dbDisconnect(db)
