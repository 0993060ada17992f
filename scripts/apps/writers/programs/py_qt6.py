#@ title = "Qt 6 QSQLITE (PySide6)"
#@ pip = ["PySide6-Essentials==6.12.0"]
#@ heavy = true
#@ [modes]
#@ "wal" = "equal"
#@ "delete" = "equal"
from importlib.metadata import version

from PySide6.QtSql import QSqlDatabase, QSqlQuery

from _qt import serve

serve(QSqlDatabase, QSqlQuery, version("PySide6-Essentials"))
