"""Reads JSON texts, one a line, and prints what SQLAlchemy makes of each as a URL."""

import json
import sys

from sqlalchemy.engine import make_url

for line in sys.stdin:
    try:
        url = make_url(json.loads(line))
        parts = {
            "user": url.username,
            "password": url.password,
            "host": url.host,
            "port": url.port,
            "database": url.database,
            "name": url.query.get("application_name"),
        }
    except Exception:
        parts = None
    print(json.dumps(parts))
