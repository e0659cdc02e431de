// Takes webhooks of Gancho: verifies them, stores them, and answers. README.md, one folder up, says what it keeps to.
//
//   WEBHOOK_KEY='whsec_... whsec_...' STORE=received.log PORT=8080 node receiver.js
const crypto = require("node:crypto");
const fs = require("node:fs");
const http = require("node:http");

// apply does what the event is for. After a crash it may be called again with the same event.
function apply(event) {
  console.log(event.type, event.id); // what takes long belongs in a queue of your own
}

// rowOf names what the event is about: of one row, an older event is not applied after a newer one. Empty: it has no order.
function rowOf(event) {
  const id = event.data?.id;
  if (!event.sequence || id === undefined || id === null) return "";
  return `${event.tenant}/${event.type.split(".")[0]}/${id}`; // cobranca of cobranca.liquidada
}

// verify reports whether one signature fits one of the keys.
function verify(keys, headers, body) {
  const id = headers["webhook-id"], stamp = headers["webhook-timestamp"] || "";
  if (!id || !/^\d+$/.test(stamp) || Math.abs(Date.now() / 1000 - Number(stamp)) > 300) return false;
  const signed = Buffer.concat([Buffer.from(`${id}.${stamp}.`), body]);
  const signatures = (headers["webhook-signature"] || "").split(" ").map((part) => part.split(","));
  return keys.some((key) => {
    const kind = key.slice(0, key.indexOf("_"));
    const raw = Buffer.from(key.slice(kind.length + 1), "base64");
    if (raw.length === 0) return false;
    return signatures.some(([version, text]) => {
      const signature = Buffer.from(text || "", "base64");
      if (version === "v1" && kind === "whsec") {
        const want = crypto.createHmac("sha256", raw).update(signed).digest();
        return signature.length === want.length && crypto.timingSafeEqual(signature, want);
      }
      if (version === "v1a" && kind === "whpk" && raw.length === 32) {
        const der = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), raw]);
        return crypto.verify(null, signed, { key: der, format: "der", type: "spki" }, signature);
      }
      return false;
    });
  });
}

// decode reads a body: an event, or a list of them. JSON.parse makes floats of numbers, which lose digits: have the operator set
// numbers: string where they matter.
function decode(text) {
  const body = JSON.parse(text);
  const events = Array.isArray(body) ? body : [body];
  for (const event of events) {
    if (!event?.type || !event.id || !event.timestamp) throw new SyntaxError("no type, id and timestamp: is the endpoint's format standard?");
    if (typeof event.data?.id === "number" && !Number.isSafeInteger(event.data.id)) {
      throw new RangeError("data.id has more digits than a number of JavaScript: have the operator set numbers: string");
    }
  }
  return events;
}

// Store is a file with a line for each request that brought something new, and what is known from it. It grows: a program that has
// a database keeps two tables there instead, and applies events in the same transaction.
class Store {
  received = new Map(); // webhook-id → {type, at, replay}
  sequences = new Map(); // row → the last sequence that was applied

  // A last line without its end was not answered: it is cut off, and comes again.
  constructor(path) {
    this.file = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_APPEND, 0o600);
    const content = fs.readFileSync(path);
    let end = 0;
    for (let next; (next = content.indexOf(10, end)) >= 0; end = next + 1) {
      const line = content.toString("utf8", end, next);
      const tab = line.indexOf("\t");
      for (const event of decode(line.slice(tab + 1))) this.#take(event, line.slice(0, tab) === "true");
    }
    fs.ftruncateSync(this.file, end);
    fs.fsyncSync(this.file);
  }

  // take applies and stores the events of a request, and returns a line about each.
  take(events, replay, text) {
    const outcomes = events.map((event) => {
      const outcome = this.#take(event, replay);
      if (outcome === "applied") apply(event);
      return outcome;
    });
    if (outcomes.some((outcome) => outcome !== "repeated")) {
      // Within JSON, ends of lines are nowhere but between tokens.
      const line = Buffer.from(`${replay}\t${text.replace(/[\r\n]/g, " ")}\n`);
      for (let done = 0; done < line.length;) done += fs.writeSync(this.file, line, done);
      fs.fsyncSync(this.file);
    }
    return outcomes.join("\n") + "\n";
  }

  // Returns what the event is: repeated, older, applied, taken (a ping, a notice) or how a closing compares.
  #take(event, replay) {
    const known = this.received.get(event.id);
    if (known && !replay) return "repeated"; // who asks for an event again wants it applied again
    this.received.set(event.id, {
      type: event.type,
      at: Date.parse(event.timestamp),
      replay: replay && (!known || known.replay), // it came for the first time because somebody asked for it
    });
    if (event.type === "gancho.closing") return this.#compare(event.data);
    const row = rowOf(event);
    if (!row) return event.type === "ping" || event.type.startsWith("gancho.") ? "taken" : "applied"; // it has no order
    if (event.sequence < (this.sequences.get(row) || "")) return "older";
    this.sequences.set(row, event.sequence);
    return "applied";
  }

  // Says whether what was received of a day is what was sent.
  #compare(closing) {
    const from = Date.parse(closing.from), to = Date.parse(closing.to);
    const days = new Map(); // type → {ids, demanded}
    for (const [id, { type, at, replay }] of this.received) {
      if (at < from || at >= to || type.startsWith("gancho.") || type === "ping") continue;
      if (!days.has(type)) days.set(type, { ids: [], demanded: 0 });
      days.get(type).ids.push(id);
      if (replay) days.get(type).demanded++;
    }
    const wrong = [];
    const differs = (type, sent, day) => wrong.push(`${type}: ${sent} sent, ${day.ids.length} received (${day.demanded} on demand)`);
    for (const { event, count, digest } of closing.events) {
      const day = days.get(event) || { ids: [], demanded: 0 };
      days.delete(event);
      const own = crypto.createHash("sha256").update(day.ids.sort().join("\n")).digest("hex");
      if (own !== digest) differs(event, count, day);
    }
    for (const [type, day] of days) differs(type, 0, day);
    wrong.sort();
    if (!closing.complete) wrong.push("the sender's log is not whole");
    return `closing ${closing.day}: ${wrong.join("; ") || "agrees"}`;
  }
}

const keys = (process.env.WEBHOOK_KEY || "").split(/\s+/).filter(Boolean);
const store = new Store(process.env.STORE || "received.log");
const limit = 64 << 20;

http.createServer((request, response) => {
  const answer = (status, text) => response.writeHead(status, { "content-type": "text/plain; charset=utf-8" }).end(text);
  if (request.url !== "/hooks") return answer(404, "not here\n");
  if (request.method !== "POST") return answer(405, "POST only\n");
  const parts = [];
  let size = 0;
  request.on("data", (part) => {
    size += part.length;
    if (size <= limit) parts.push(part);
  });
  request.on("end", () => {
    if (size > limit) return answer(413, "too large\n");
    const body = Buffer.concat(parts); // the bytes as they came: JSON.parse and back would change them
    if (!verify(keys, request.headers, body)) return answer(401, "no valid signature\n");
    const text = body.toString("utf8");
    let events;
    try {
      events = decode(text);
    } catch (e) {
      return answer(e instanceof SyntaxError ? 400 : 500, e.message + "\n");
    }
    let outcome;
    try {
      outcome = store.take(events, request.headers["webhook-replay"] === "true", text);
    } catch (e) {
      console.error("write the store:", e.message);
      process.exit(1); // not answered, so it comes again; what is known is read from the file at the next start
    }
    if (outcome.includes("closing ")) console.error(outcome.trim()); // alarm somebody when it does not agree
    answer(200, outcome);
  });
}).listen(Number(process.env.PORT || 8080), "127.0.0.1");
