"""The client API of a Matrix homeserver, as far as the script needs it.

Each request is tried again while the server is away or says that it failed: requests that change something carry a
transaction id, or say what is to be, so that one which the server has seen already is not done twice.
"""

import json
import os
import time
import urllib.error
import urllib.request
from urllib.parse import quote, urlencode

API = "/_matrix/client/v3"
#: Seconds until a request is given up, with all its tries.
_LIMIT = 300
_PAUSE = 0.02


class RefusedError(Exception):
    """The server has answered that it does not do that."""

    def __init__(self, code, body):
        super().__init__(f"{code} {body}")
        self.code = code


def path(*parts):
    """A path of the API, of parts that may have any letters."""
    return "/".join([API, *(quote(str(part), safe="") for part in parts)])


class Person:
    """One who is logged in; without a token, one who is not."""

    tries = 0
    """Requests that had to be made again, of all persons."""

    def __init__(self, user="", token="", device=""):
        self.user, self.token, self.device = user, token, device

    def call(self, method, place, body=None, *, query=None, kind="application/json", raw=False):
        """What the server answers. Raises :class:`RefusedError`, :class:`TimeoutError`."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        url = os.environ["CHAT_URL"] + place + (f"?{urlencode(query)}" if query else "")
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if body is not None:
            headers["Content-Type"] = kind
        until = time.monotonic() + _LIMIT
        while True:
            request = urllib.request.Request(url, data=body, headers=headers, method=method)
            try:
                with urllib.request.urlopen(request, timeout=_LIMIT) as answer:
                    found = answer.read()
                    return found if raw else json.loads(found)
            except urllib.error.HTTPError as error:
                said = error.read().decode(errors="replace")
                if error.code < 500:
                    raise RefusedError(error.code, said) from error
                last = f"{error.code} {said}"
            except OSError as error:  # refused, reset, timed out
                last = repr(error)
            if time.monotonic() > until:
                raise TimeoutError(f"{method} {place}: {last}")
            Person.tries += 1
            time.sleep(_PAUSE)

    def get(self, *parts, **query):
        """A GET of a path in parts."""
        return self.call("GET", path(*parts), query=query)

    def put(self, *parts, **body):
        """A PUT of a path in parts."""
        return self.call("PUT", path(*parts), body)

    def post(self, *parts, **body):
        """A POST of a path in parts."""
        return self.call("POST", path(*parts), body)

    def send(self, room, mark, kind="m.room.message", **content):
        """Send an event once, however often it is asked for; its id. ``mark``: the id of the transaction."""
        return self.put("rooms", room, "send", kind, mark, **content)["event_id"]

    def say(self, room, mark, body, **more):
        """Send a message; its id."""
        return self.send(room, mark, msgtype="m.text", body=body, **more)


def register(name=None, *, guest=False):
    """A new person; without a name, the server gives a number."""
    body = {"auth": {"type": "m.login.dummy"}, "password": f"secret {name}", "initial_device_display_name": "a device"}
    if name is not None:
        body["username"] = name
    place = path("register")
    made = Person().call("POST", place, {} if guest else body, query={"kind": "guest"} if guest else None)
    return Person(made["user_id"], made["access_token"], made.get("device_id", ""))


def login(name):
    """One who is known, with another device."""
    who = {"type": "m.id.user", "user": name}
    made = Person().post("login", type="m.login.password", identifier=who, password=f"secret {name}")
    return Person(made["user_id"], made["access_token"], made["device_id"])
