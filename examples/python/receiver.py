"""Takes webhooks of Gancho: verifies them, stores them, and answers. README.md, one folder up, says what it keeps to.

WEBHOOK_KEY='whsec_... whsec_...' STORE=received.db PORT=8080 python3 receiver.py
"""
import base64
import hashlib
import hmac
import json
import os
import sqlite3
import sys
import time
from datetime import datetime, timezone
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEYS = os.environ.get("WEBHOOK_KEY", "").split()
STORE = os.environ.get("STORE", "received.db")
LIMIT = 64 << 20


def apply(db, event):
    """Do what the event is for. What is done through db is done once: it is committed with the webhook-id."""
    print(event["type"], event["id"], flush=True)  # what takes long belongs in a queue of your own


def row_of(event):
    """Name what the event is about: of one row, an older event is not applied after a newer one. None: it has no order."""
    data = event.get("data")
    id = data.get("id") if isinstance(data, dict) else None
    if not event.get("sequence") or id is None:
        return None
    return f"{event.get('tenant')}/{event['type'].split('.')[0]}/{id}"  # cobranca of cobranca.liquidada


def verify(keys, headers, body):
    """Report whether one v1 signature fits one of the keys. The standard library has no ed25519: for v1a use the package cryptography."""
    id, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not (stamp.isascii() and stamp.isdigit()) or abs(time.time() - int(stamp)) > 300:
        return False
    signed = f"{id}.{stamp}.".encode() + body
    signatures = headers.get("webhook-signature", "").split(" ")
    for key in keys:
        raw = base64.b64decode(key.removeprefix("whsec_"))
        if not key.startswith("whsec_") or not raw:  # whoever knows a public key, or an empty one, could sign
            continue
        want = "v1," + base64.b64encode(hmac.new(raw, signed, hashlib.sha256).digest()).decode()
        if any(hmac.compare_digest(want.encode(), s.encode()) for s in signatures):
            return True
    return False


def decode(body):
    """Read a body: an event, or a list of them."""
    read = json.loads(body, parse_float=Decimal)  # keeps the digits
    events = read if isinstance(read, list) else [read]
    for event in events:
        if not isinstance(event, dict) or not all(event.get(name) for name in ("type", "id", "timestamp")):
            raise ValueError("no type, id and timestamp: is the endpoint's format standard?")
    return events


def connect():
    db = sqlite3.connect(STORE, timeout=30, isolation_level=None)
    db.execute("pragma synchronous = full")
    return db


def prepare(db):
    db.execute("pragma journal_mode = wal")
    db.execute("create table if not exists received (webhook_id text primary key, type text, at text, replay integer, body text)")
    db.execute("create table if not exists row_sequences (row text primary key, sequence text)")


def take(events, replay, text):
    """Apply and store the events of a request in one transaction, and return a line about each."""
    db = connect()
    try:
        db.execute("begin immediate")
        outcomes = [take_one(db, event, replay, text) for event in events]
        db.execute("commit")
    finally:
        db.close()
    return "".join(outcome + "\n" for outcome in outcomes)


def take_one(db, event, replay, text):
    """Return what the event is: repeated, older, applied, taken (a ping, a notice) or how a closing compares."""
    new = db.execute(
        "insert into received values (?, ?, ?, ?, ?) on conflict do nothing",
        (event["id"], event["type"], in_utc(event["timestamp"]), replay, text),
    ).rowcount
    if not new and not replay:  # who asks for an event again wants it applied again
        return "repeated"
    if event["type"] == "gancho.closing":
        return compare(db, event["data"])
    row = row_of(event)
    if row is None and (event["type"] == "ping" or event["type"].startswith("gancho.")):
        return "taken"
    if row is None:  # it has no order
        apply(db, event)
        return "applied"
    applied = db.execute(
        "insert into row_sequences values (?, ?)"
        " on conflict (row) do update set sequence = excluded.sequence where excluded.sequence >= row_sequences.sequence",
        (row, event["sequence"]),
    ).rowcount
    if not applied:
        return "older"
    apply(db, event)
    return "applied"


def compare(db, closing):
    """Say whether what was received of a day is what was sent."""
    days = {}
    for type, id, replay in db.execute(
        "select type, webhook_id, replay from received"
        " where at >= ? and at < ? and type not like 'gancho.%' and type <> 'ping' order by webhook_id",
        (in_utc(closing["from"]), in_utc(closing["to"])),
    ):
        days.setdefault(type, []).append((id, replay))
    wrong = []

    def differs(type, sent, day):
        wrong.append(f"{type}: {sent} sent, {len(day)} received ({sum(replay for _, replay in day)} on demand)")

    for sent in closing["events"]:
        day = days.pop(sent["event"], [])
        if hashlib.sha256("\n".join(id for id, _ in day).encode()).hexdigest() != sent["digest"]:
            differs(sent["event"], sent["count"], day)
    for type, day in days.items():
        differs(type, 0, day)
    wrong.sort()
    if not closing["complete"]:
        wrong.append("the sender's log is not whole")
    return f"closing {closing['day']}: {'; '.join(wrong) or 'agrees'}"


def in_utc(text):
    """The time as a text that sorts."""
    at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = int(self.headers.get("content-length", 0))
        if self.path != "/hooks" or length > LIMIT:
            self.close_connection = True
            self.answer(404 if self.path != "/hooks" else 413, "not here, or too large\n")
            return
        body = self.rfile.read(length)
        if not verify(KEYS, self.headers, body):
            self.answer(401, "no valid signature\n")
            return
        try:
            events = decode(body)
        except ValueError as e:
            self.answer(400, f"{e}\n")
            return
        try:
            outcome = take(events, self.headers.get("webhook-replay") == "true", body.decode())
        except sqlite3.Error as e:
            print("write the store:", e, file=sys.stderr, flush=True)
            self.answer(500, "not stored\n")
            return
        if "closing " in outcome:
            print(outcome.strip(), file=sys.stderr, flush=True)  # alarm somebody when it does not agree
        self.answer(200, outcome)

    def do_GET(self):
        self.answer(405, "POST only\n")

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("content-type", "text/plain; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


with connect() as first:
    prepare(first)
ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Receiver).serve_forever()
