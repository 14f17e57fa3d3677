"""Makes a database as the Python server leaves it behind.

usage: fill_database.py <schema.sql> <database> <session token> <other token>

The users are those of a new server and one who signed up. The user's password
is "correct horse battery staple".
"""

import sqlite3
import sys

HASH = (
    "$argon2id$v=19$m=102400,t=2,p=8$YzImPWMDeQk0WFZo4kjZ1g$/zqbXYNjIuGpwWe35niQbA"
)
USERS = [
    (1, "serveradmin@localhost", 1, "superuser"),
    (2, "anonuser@localhost", 1, "anonymous"),
    (3, "dummyuser@localhost", 0, "locked"),
    (4, "Jean.Bartik@eniac.example.com", 1, "authenticated"),
]
MOMENT = "2021-12-06 10:11:12.000000"


def main(schema, database, token, expired):
    connection = sqlite3.connect(database)
    with open(schema, encoding="utf-8") as file:
        connection.executescript(file.read())
    with connection:
        for role in ("superuser", "staff", "authenticated", "anonymous", "locked"):
            connection.execute(
                'INSERT INTO roles (name, "desc") VALUES (?, ?)',
                (role, f"Role with {role} privileges"),
            )
        for number, email, active, role in USERS:
            connection.execute(
                "INSERT INTO users (user_id, system_id, full_name, password, email,"
                " email_verified, is_active, failed_login_tries, created_on,"
                " last_updated, user_role) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
                (
                    number,
                    f"00000000-0000-4000-8000-00000000000{number}",
                    f"Name {number}",
                    HASH,
                    email,
                    1,
                    active,
                    0,
                    MOMENT,
                    MOMENT,
                    role,
                ),
            )
        for name, expires in (
            (token, "2099-01-02 03:04:05.000000"),
            (expired, "2022-01-02 03:04:05.678901"),
        ):
            connection.execute(
                "INSERT INTO sessions (session_token, ip_address, user_agent, user_id,"
                " created, expires, extra_info_json) VALUES (?,?,?,?,?,?,?)",
                (name, "192.0.2.55", "ENIAC", 4, MOMENT, expires, '{"cards": 7}'),
            )
    connection.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
