"""What a site's people and programs read: the configuration, what to run, and a page that says so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gateway.init.texts import filled
from runtime.settings import Route

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.init.answers import Answers

_REDIS_PORT = 6379
_TOKENS = """tokens_file = "{0}/projector/tokens"
tls_cert = "{0}/projector/http.crt"
tls_key = "{0}/projector/http.key"
"""


def configuration(answers: Answers, folder: str, spool: str) -> str:
    """`edge.toml`, for both programs; it names the gateway's own secrets, and no other's."""
    return filled(
        "edge.toml",
        folder=folder,
        spool=spool,
        host=_quoted(answers.broker_host),
        port=answers.inner_port,
        ca="" if answers.given and not answers.given_ca else f'tls_ca_file = "{folder}/ca.crt"\n',
        events=_quoted(answers.events),
        redis=_quoted(answers.redis),
        prefix=f"prefix = {_quoted(answers.redis_prefix)}\n" if answers.redis_prefix else "",
        http=_quoted(answers.http),
        tokens=_TOKENS.format(folder) if answers.is_open else "",
        routes=_routes(answers),
    )


def others(answers: Answers, folder: str, programs: Mapping[str, str]) -> dict[str, str]:
    """All else that everybody may read, by name of file.

    Args:
        answers: what the site is like.
        folder: where its files are, absolute.
        programs: how `gateway` and `projector` are called.
    """
    servers = [f"mosquitto -c {folder}/mosquitto/mosquitto.conf"] if answers.broker_here else []
    if answers.redis_here:
        servers.append(f"redis-server {folder}/redis/redis.conf")
    below = [each.replace("%u", "NAME") for each in answers.below]
    host = f"[{answers.hosts[0]}]" if ":" in answers.hosts[0] else answers.hosts[0]
    return {
        "projector.env": filled("projector.env", folder=folder),
        "servers.sh": filled(
            "servers.sh", servers="".join(f'{server} & pids="$pids $!"\n' for server in servers)
        ),
        "database.sh": filled("database.sh", folder=folder, psql=answers.psql, **programs),
        "run.sh": filled("run.sh", folder=folder, **programs),
        "README.txt": filled(
            "README.txt", folder=folder, host=host, port=answers.port, below=" or ".join(below)
        ),
    }


def redis_configuration(answers: Answers, folder: str) -> str:
    """`redis.conf`, of a Redis on the gateway's machine."""
    url = urlsplit(answers.redis)
    bind = "::1" if url.hostname == "::1" else "127.0.0.1"
    return filled("redis.conf", folder=folder, bind=bind, port=url.port or _REDIS_PORT)


def _routes(answers: Answers) -> str:
    if answers.topics == (Route().topic,) and not answers.sparkplug:
        return f"\n# [[route]]  # `gateway discover` writes them\n# topic = {_quoted(Route().topic)}"
    routes = "".join(f"\n[[route]]\ntopic = {_quoted(topic)}\n" for topic in answers.topics)
    if answers.sparkplug:
        routes += f'\n[[route]]\ndialect = "sparkplug"\n\n[sparkplug]\nhost_id = {_quoted(answers.sparkplug)}'
    return routes


def _quoted(text: str) -> str:
    """As TOML has it; JSON's strings are such."""
    return json.dumps(text, ensure_ascii=False)
