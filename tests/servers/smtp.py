"""A real SMTP server for tests: aiosmtpd on a free port of the loopback.

Prints one line, `ready PORT`, and then serves until it is killed or its standard input is closed. Every message taken is written to --store as N.eml beside N.json
(its envelope), both complete when they appear. With TLS, `root.pem` there is the certificate that signed the server's own, made at
start. `session.log` has a line for each command that matters, with the connection's number. Recipients script what happens:

    reject-550@…   is refused for good            later-451@…   is refused for now
    drop@…         closes the connection          hang@…        is never answered
    slow@…         the message's last answer waits until the file `go` appears in --store
    content-554@…  the message's content is refused for good
"""

import argparse
import asyncio
import itertools
import json
import os
import ssl
import sys

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

PARSER = argparse.ArgumentParser()
PARSER.add_argument("--store", required=True)
PARSER.add_argument("--port", type=int, default=0)
PARSER.add_argument("--tls", choices=["none", "starttls", "implicit"], default="none")
PARSER.add_argument("--user")
PARSER.add_argument("--password")
ARGS = PARSER.parse_args()

NUMBERS = itertools.count(len([name for name in os.listdir(ARGS.store) if name.endswith(".json")]) + 1)
CONNECTIONS = itertools.count(1)


def record(name, text):
    """Appends a line to a journal of the session, for tests that ask what was said."""
    with open(os.path.join(ARGS.store, name), "a") as journal:
        journal.write(text + "\n")


class Handler:
    async def handle_MAIL(self, server, session, envelope, address, options):
        record("session.log", f"{server.number} MAIL")
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        name = address.split("@")[0]
        record("session.log", f"{server.number} RCPT {address}")
        if name == "reject-550":
            return "550 5.1.1 no such user here"
        if name == "later-451":
            return "451 4.7.1 try again later"
        if name == "drop":
            server.transport.close()
            return "250 never seen"
        if name == "hang":
            await asyncio.Event().wait()
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        record("session.log", f"{server.number} DATA")
        names = [address.split("@")[0] for address in envelope.rcpt_tos]
        if "content-554" in names:
            return "554 5.6.0 content refused"
        if "slow" in names:
            while not os.path.exists(os.path.join(ARGS.store, "go")):
                await asyncio.sleep(0.005)
        number = next(NUMBERS)
        about = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": server.transport.get_extra_info("ssl_object") is not None,
            "user": session.login_data.decode() if session.authenticated else None,
            "connection": server.number,
        }
        write(f"{number}.eml", envelope.original_content)
        write(f"{number}.json", json.dumps(about).encode())
        return "250 OK"


def write(name, content):
    path = os.path.join(ARGS.store, name)
    with open(path + ".part", "wb") as file:
        file.write(content)
    os.rename(path + ".part", path)


def authenticate(server, session, envelope, mechanism, data):
    record("session.log", f"{server.number} AUTH {mechanism}")
    ok = isinstance(data, LoginPassword) and (data.login.decode(), data.password.decode()) == (ARGS.user, ARGS.password)
    return AuthResult(success=ok, handled=False, auth_data=data)


def certificate():
    """A certificate of our own for localhost, and the root that signed it for whoever has to trust it."""
    root = trustme.CA()
    root.cert_pem.write_to_path(os.path.join(ARGS.store, "root.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    root.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


def end_with_parent():
    if not os.read(sys.stdin.fileno(), 1024):
        os._exit(0)


async def main():
    context = certificate() if ARGS.tls != "none" else None

    def session():
        server = SMTP(
            Handler(),
            hostname="localhost",
            tls_context=context if ARGS.tls == "starttls" else None,
            require_starttls=ARGS.tls == "starttls",
            authenticator=authenticate if ARGS.user else None,
            auth_required=bool(ARGS.user),
            # aiosmtpd only knows of TLS that began with STARTTLS.
            auth_require_tls=ARGS.tls == "starttls",
        )
        server.number = next(CONNECTIONS)
        return server

    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), end_with_parent)
    implicit = context if ARGS.tls == "implicit" else None
    listening = await loop.create_server(session, "127.0.0.1", ARGS.port, ssl=implicit)
    print("ready", listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


asyncio.run(main())
