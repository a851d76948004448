# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two upstreams for nginx: one at port 4301 that nobody can connect to, and one at 4302 that is silent for longer than the 60 s that nginx itself waits."""

from __future__ import annotations

import socket
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SILENCE = 65


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.headers["Upgrade"]:
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.end_headers()
            time.sleep(SILENCE)
            self.wfile.write(b"there")
            self.close_connection = True
        else:
            if self.path != "/at-once":
                time.sleep(SILENCE)
            self.answer(b"there")

    def do_POST(self) -> None:
        time.sleep(SILENCE)
        self.answer(str(len(self.rfile.read(int(self.headers["Content-Length"])))).encode())

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


# One connection that waits to be accepted is all that there is room for: the kernel lets nobody else in.
full = socket.create_server(("127.0.0.1", 4301), backlog=0)
first = socket.create_connection(("127.0.0.1", 4301))
ThreadingHTTPServer(("127.0.0.1", 4302), Handler).serve_forever()
