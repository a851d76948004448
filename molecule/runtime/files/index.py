"""Serves a folder of folders of wheels as a package index (PEP 503), to those who know the password in CREDENTIALS."""

import base64
import functools
import http.server
import os
import sys

folder, port = sys.argv[1:]
authorization = "Basic " + base64.b64encode(os.environ["CREDENTIALS"].encode()).decode()


class Index(http.server.SimpleHTTPRequestHandler):
    def send_head(self):
        if self.headers["Authorization"] == authorization:
            return super().send_head()
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="index"')
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None


http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), functools.partial(Index, directory=folder)).serve_forever()
