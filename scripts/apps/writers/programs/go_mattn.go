// @ title = "Go mattn/go-sqlite3 (Debian)"
// @ apt = ["golang-go", "golang-github-mattn-go-sqlite3-dev"]
// @ run = ["go", "run", "{program}"]
// @ [modes]
// @ "wal" = "equal"
// @ "delete" = "equal"
// @ [environment]
// @ GO111MODULE = "off"
// @ GOPATH = "/usr/share/gocode"
// @ GOCACHE = "{folder}/go"
package main

import (
	"bufio"
	"database/sql"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/mattn/go-sqlite3"
)

func main() {
	db, _ := sql.Open("sqlite3", os.Args[1])
	db.SetMaxOpenConns(1) // BEGIN and COMMIT are statements: one connection runs them all
	version, _, _ := sqlite3.Version()
	fmt.Println("ready", runtime.Version(), version)
	input := bufio.NewReader(os.Stdin)
	for {
		line, end := input.ReadString('\n')
		if end != nil {
			break
		}
		if _, err := db.Exec(line); err != nil {
			fmt.Println("error " + strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Println("ok")
		}
	}
	db.Close()
}
