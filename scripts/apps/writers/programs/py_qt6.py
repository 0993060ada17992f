# @ title = "Qt 6 QSQLITE (PySide6)"
# @ pip = ["PySide6-Essentials==6.12.0"]
# @ heavy = true
# @ [modes]
# @ "wal" = "equal"
# @ "delete" = "equal"
"""Qt's driver with a SQLite of its own."""

from importlib.metadata import version

from _qt import serve_qt
from PySide6.QtCore import QCoreApplication
from PySide6.QtSql import QSqlDatabase, QSqlQuery

serve_qt(QCoreApplication, QSqlDatabase, QSqlQuery, version("PySide6-Essentials"))
