"""Two tabs of one browser that work at the same moment while a login gives the profile another id."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import jwt
from serving import Server, call, page, serving

PREFIX = "/v2/organizations/default/environments/main"
SECRET = "a secret of more than thirty-two bytes"


def proof(user: str) -> dict[str, Any]:
    claims = {"sub": user, "aud": "default/main", "exp": int(time.time()) + 600}
    token = jwt.encode(claims, SECRET, algorithm="HS256")
    return {**without_properties(page(f"login-{user}")), "traits": {"nt_identity": token}, "userId": user}


def without_properties(event: dict[str, Any]) -> dict[str, Any]:
    return {**{name: value for name, value in event.items() if name != "properties"}, "type": "identify"}


def tab(server: Server, number: int, id: str, begin: threading.Barrier, told: list[Any]) -> None:
    """A tab as the SDK behaves: it keeps the id of its own last answer, and knows nothing of the other tab's."""
    try:
        with server.connection() as connection:
            for step in range(12):
                event = proof("anna") if step == 4 else page(f"tab-{number}-{step}", f"/{number}/{step}")
                if step in (4, 6):
                    begin.wait(60)
                answer = call(connection, "POST", f"{PREFIX}/profiles/{id}", {"events": [event]})
                assert answer.status == 200, answer.body
                told.append(answer.json()["data"]["profile"])
                id = told[-1]["id"]
    except BaseException:
        begin.abort()
        raise


def test_both_tabs_keep_working_and_end_in_one_profile(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    options = ["--access", "guarded", "--environments", "default/main", "--store-shards", "2"]
    with serving(tmp_path, *options, "--identity-secret-file", str(tmp_path / "secret")) as server:
        for round in range(3):
            first = server.call("POST", f"{PREFIX}/profiles", {"events": [page(f"first-{round}")]})
            before = first.json()["data"]["profile"]
            begin, told = threading.Barrier(2), ([], [])
            tabs = [threading.Thread(target=tab, args=(server, 2 * round + n, before["id"], begin, told[n]))
                    for n in range(2)]  # fmt: skip
            for each in tabs:
                each.start()
            for each in tabs:
                each.join(60)
            assert [len(answers) for answers in told] == [12, 12]
            assert told[0][-1]["id"] == told[1][-1]["id"] != before["id"]
            if not round:
                assert told[0][-1]["stableId"] == before["stableId"]
            # The other tab's id, and the one from before the login, lead there for a minute.
            for id in {before["id"], *(answer["id"] for answers in told for answer in answers)}:
                answer = server.call("GET", f"{PREFIX}/profiles/{id}")
                assert (answer.status, answer.json()["data"]["profile"]["id"]) == (200, told[0][-1]["id"])
