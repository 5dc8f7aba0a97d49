"""What SQLite says of every database below a home, a line each."""

import sqlite3
import sys
from pathlib import Path

for path in sorted(Path(sys.argv[1]).rglob("*.db")):
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            said = database.execute("PRAGMA integrity_check").fetchone()[0]
    except sqlite3.Error as error:
        said = str(error)
    print(f"{path}: {said}")
