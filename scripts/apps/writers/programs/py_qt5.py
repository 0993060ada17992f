# @ title = "Qt 5 QSQLITE (Debian)"
# @ apt = ["python3-pyqt5.qtsql", "libqt5sql5-sqlite"]
# @ run = ["/usr/bin/python3", "{program}"]
# @ [modes]
# @ "wal" = "equal"
# @ "delete" = "equal"
"""Qt's driver with Debian's SQLite."""

from _qt import serve_qt
from PyQt5.QtCore import QT_VERSION_STR, QCoreApplication
from PyQt5.QtSql import QSqlDatabase, QSqlQuery

serve_qt(QCoreApplication, QSqlDatabase, QSqlQuery, QT_VERSION_STR)
