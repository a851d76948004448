# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`prefect server start` on SQLite, without the minutes in which the whole server answers nothing.

SQLAlchemy 2.0 leaves the cursor of a statement that failed open (AsyncAdapt_aiosqlite_cursor.execute), and on SQLite some always
fail: "database is locked". Python's garbage collector frees such a cursor later, in the event loop's thread, where SQLite first
waits for what the cursor's connection is doing by then. If that is waiting for the write lock (busy_timeout, 60 s), and the lock's
holder for the event loop, nothing goes on. So a cursor is closed here as soon as its statement has failed.

SQLAlchemy 2.1 closes them by itself, but the scheduler of Prefect 3.8 does not work with it. Up to Prefect 3.1 the server is a
process of its own, which this does not reach.

Usage: prefect_server.py server start ... (the arguments are `prefect`'s)
"""

from __future__ import annotations

import traceback

import aiosqlite
from prefect.cli import app
from sqlalchemy import Engine, ExceptionContext, event


def close_cursor(context: ExceptionContext) -> None:
    for frame, _line in traceback.walk_tb(context.original_exception.__traceback__):
        cursor = frame.f_locals.get("_cursor")
        if isinstance(cursor, aiosqlite.Cursor):
            # SQLAlchemy 2.1 neither needs nor has it.
            from sqlalchemy.util import await_only

            await_only(cursor.close())
            return


if __name__ == "__main__":
    event.listen(Engine, "handle_error", close_cursor)
    app()
