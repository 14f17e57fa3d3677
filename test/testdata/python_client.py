"""Talks to a server in the way of the published Python clients.

usage: python_client.py 0.1.3 | development-line

AUTHNZERVER_URL and AUTHNZERVER_SECRET say where the server is and which key it
shares, with or without double quotes around them. The script ends with an
exception when the server does anything that a client of the given generation
does not expect.
"""

import base64
import collections
import datetime
import json
import os
import random
import secrets
import sys
import urllib.error
import urllib.request

from cryptography.fernet import Fernet

Result = collections.namedtuple(
    "Result", "success response messages headers status_code failure_reason"
)


def from_environment(name):
    return os.environ[name].strip().strip('"')


def post(url, body):
    """Sends one request over a connection of its own."""
    request = urllib.request.Request(
        url,
        data=body,
        method="POST",
        headers={
            "Content-Type": "application/x-www-form-urlencoded",
            "Connection": "close",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=5.0) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


class NewClient:
    """The client class of the development line."""

    verified = "user-set-emailverified"

    def __init__(self, url, secret):
        self.url = url
        self.fernet = Fernet(secret)

    def seal(self, message):
        return base64.b64encode(self.fernet.encrypt(json.dumps(message).encode()))

    def open(self, body):
        return json.loads(self.fernet.decrypt(base64.b64decode(body)))

    def request(self, name, body, request_id=None):
        if request_id is None:
            request_id = secrets.token_urlsafe(8)
        message = {
            "request": name,
            "body": body,
            "reqid": request_id,
            "client_ipaddr": body["client_ipaddr"],
        }
        status, headers, answer = post(self.url, self.seal(message))
        if status != 200:
            return Result(False, None, [], headers, status, answer.decode())
        reply = self.open(answer)
        if reply["reqid"] != request_id or type(reply["reqid"]) is not type(request_id):
            raise ValueError("the reply belongs to another request")
        response = reply["response"]
        for key in ("success", "messages", "failure_reason"):
            response.pop(key, None)
        return Result(
            reply["success"],
            response,
            reply.get("messages"),
            headers,
            status,
            reply.get("failure_reason"),
        )

    def call(self, name, **body):
        body["client_ipaddr"] = "203.0.113.44"
        return self.request(name, body)

    def set_info(self, token):
        return self.call(
            "internal-session-edit",
            target_session_token=token,
            update_dict={"basket": [1, 2], "visits": "__delete__"},
        )


class OldClient(NewClient):
    """The example frontend of 0.1.3.

    It knows no client_ipaddr, does not look at reqid, and reads the messages
    of the inner response.
    """

    verified = "user-verify-emailaddr"

    def call(self, name, **body):
        message = {"request": name, "body": body, "reqid": random.randint(0, 10000)}
        status, headers, answer = post(self.url, self.seal(message))
        if status != 200:
            return Result(False, None, ["failed"], headers, status, None)
        reply = self.open(answer)
        assert isinstance(reply["message"], list), "message is gone"
        response = reply["response"]
        return Result(
            reply["success"], response, response["messages"], headers, status, None
        )

    def set_info(self, token):
        return self.call(
            "session-setinfo", session_token=token, extra_info={"basket": [1, 2]}
        )


class Visit:
    """A user's visit, request by request."""

    def __init__(self, client):
        self.client = client
        self.requests = 0

    def ask(self, name, expected=True, **body):
        result = self.client.call(name, **body)
        return self.check(name, expected, result)

    def check(self, name, expected, result):
        self.requests += 1
        assert result.status_code == 200, f"{name}: status {result.status_code}"
        assert result.success is expected, f"{name}: {result}"
        assert result.messages and all(isinstance(m, str) for m in result.messages)
        return result.response

    def session(self, user_id=None):
        expires = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
        expires = expires.replace(microsecond=0, tzinfo=None)
        response = self.ask(
            "session-new",
            ip_address="203.0.113.44",
            user_agent="Mozilla/5.0 (analytical engine)",
            user_id=user_id,
            expires=expires.isoformat(timespec="microseconds"),
            extra_info_json={"visits": 1},
        )
        # The fraction must be there even when it is zero.
        kept = datetime.datetime.strptime(response["expires"], "%Y-%m-%dT%H:%M:%S.%f")
        assert kept == expires, (kept, expires)
        assert len(response["session_token"]) == 43
        return response["session_token"]

    def run(self):
        email, name = "Ada.Lovelace@analytical.example.com", "Ada Lovelace"
        password = "note G computes Bernoulli"

        anonymous = self.session()
        info = self.ask("session-exists", session_token=anonymous)["session_info"]
        assert (info["user_id"], info["user_role"]) == (2, "anonymous"), info
        self.ask("session-exists", expected=False, session_token="nothing")

        new = self.ask("user-new", full_name=name, email=email, password=password)
        assert new["user_email"] == email.lower() and new["send_verification"] is True
        user_id = new["user_id"]
        login = dict(session_token=anonymous, email=email, password=password)
        assert self.ask("user-login", expected=False, **login)["user_id"] is None
        verified = self.ask(self.client.verified, email=email)
        assert (verified["user_id"], verified["is_active"]) == (user_id, True)

        login["session_token"] = self.session()
        login["password"] = "note H computes nothing"
        self.ask("user-login", expected=False, **login)
        login.update(session_token=self.session(), password=password)
        assert self.ask("user-login", **login)["user_id"] == user_id
        token = self.session(user_id)
        info = self.ask("session-exists", session_token=token)["session_info"]
        assert info["user_id"] == user_id and info["email"] == email.lower(), info
        assert info["extra_info_json"] == {"visits": 1}, info
        changed = self.check("edit", True, self.client.set_info(token))
        assert changed["session_info"]["extra_info_json"] == {"basket": [1, 2]}

        self.ask("user-passcheck", session_token=token, password=password)
        self.ask("user-passcheck", expected=False, session_token=token, password="no")
        access = dict(
            user_id=user_id,
            user_role="authenticated",
            action="edit",
            target_name="dataset",
            target_owner=user_id,
            target_visibility="private",
            target_sharedwith="none",
        )
        self.ask("user-check-access", **access)
        access["target_owner"] = 1
        self.ask("user-check-access", expected=False, **access)
        limit = dict(user_id=user_id, user_role="authenticated")
        limit["limit_name"] = "max_requests_per_minute"
        self.ask("user-check-limit", value_to_check=5999, **limit)
        self.ask("user-check-limit", expected=False, value_to_check=6001, **limit)

        users = self.ask("user-list", user_id=None)["user_info"]
        assert [user["user_id"] for user in users] == [1, 2, 3, user_id], users
        assert all("password" not in user for user in users)
        self.ask(
            "session-delete-userid",
            session_token=token,
            user_id=user_id,
            keep_current_session=True,
            expected=False,
        )
        self.ask("user-logout", session_token=token, user_id=user_id)
        self.ask("session-delete", expected=False, session_token=token)
        leave = dict(email=email, user_id=user_id, password=password)
        assert self.ask("user-delete", **leave)["user_id"] == user_id
        assert self.ask("user-list", user_id=user_id)["user_info"] == []


def check_refusals(client):
    """A refusal is a status with a short text, which the client shows."""
    message = {"request": "no-such-request", "body": {}, "reqid": 1}
    status, headers, answer = post(client.url, client.seal(message))
    assert status == 400, status
    assert headers.get_content_type() == "text/plain" and answer.decode("utf-8")
    stranger = type(client)(client.url, Fernet.generate_key())
    status, _, answer = post(client.url, stranger.seal(message))
    assert status == 401 and answer.decode("utf-8"), status
    # Clients use a reqid several times and send every kind of JSON value.
    if type(client) is NewClient:
        body = {"session_token": "x", "client_ipaddr": "203.0.113.44"}
        for reqid in ("same", "same", 0, 12345678901234567890, 1.5, False, [1, {"a": None}], ""):
            assert client.request("session-exists", dict(body), reqid).status_code == 200
        wrong = client.request("session-exists", {"client_ipaddr": "203.0.113.44"})
        assert wrong.success is False and wrong.failure_reason, wrong
        problem = wrong.response["response"]["problems"][0]
        assert (problem["param"], problem["problem"]) == ("session_token", "missing")


def main():
    kind = {"0.1.3": OldClient, "development-line": NewClient}[sys.argv[1]]
    client = kind(from_environment("AUTHNZERVER_URL"), from_environment("AUTHNZERVER_SECRET"))
    check_refusals(client)
    visit = Visit(client)
    visit.run()
    print(visit.requests, "requests were answered as expected")


if __name__ == "__main__":
    main()
