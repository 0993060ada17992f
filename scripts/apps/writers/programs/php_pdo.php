<?php
# @ title = "PHP PDO (Debian)"
# @ apt = ["php8.2-cli", "php8.2-sqlite3"]
# @ [modes]
# @ "wal" = "equal"
# @ "delete" = "equal"
$db = new PDO("sqlite:" . $argv[1]);
$db->setAttribute(PDO::ATTR_ERRMODE, PDO::ERRMODE_EXCEPTION);
echo "ready ", PHP_VERSION, " ", $db->query("select sqlite_version()")->fetchColumn(), "\n";
while (($line = fgets(STDIN)) !== false) {
    try {
        $done = $db->query(trim($line));
        $done->fetchAll();
        $done = null;
        echo "ok\n";
    } catch (PDOException $error) {
        echo "error ", str_replace("\n", " ", $error->getMessage()), "\n";
    }
}
