/** How the page talks to the API: a job's events, which survive what breaks on the way, and what is sent once. */

const KINDS = [
  "job.snapshot", "stream.gap", "job.status", "job.attempt", "job.progress", "job.output", "job.log", "job.completed",
];

/** Follows a job to its end, however often the connection breaks; `say` is told how the connection is. */
export function follow(url, handle, say, after = null) {
  let source = null;
  let timer = null;
  let last = after;
  let ended = false;

  function open() {
    const where = new URL(url, document.baseURI);
    if (last !== null) where.searchParams.set("starting_after", last);
    source = new EventSource(where);
    source.onopen = () => say("open");
    source.onerror = () => (source.readyState === EventSource.CLOSED ? refused() : say("lost"));
    for (const kind of KINDS) {
      source.addEventListener(kind, (event) => {
        last = event.lastEventId;
        if (kind === "job.completed") end();
        handle(kind, JSON.parse(event.data));
      });
    }
  }

  /** An EventSource does not come back from an answer that is no stream, such as the 502 of a proxy. */
  async function refused() {
    const found = await fetch(url.replace(/\/events$/, ""), { cache: "no-store" }).catch(() => null);
    if (ended) return;
    if (found && found.status < 500 && !found.ok) return say("gone");
    say("lost");
    timer = setTimeout(open, 1000 + 2000 * Math.random());
  }

  function end() {
    ended = true;
    clearTimeout(timer);
    source.close();
  }

  open();
  return end;
}

/** What a job logged up to an event: the snapshot has what it said, but not its log. */
export function readLog(url, until, handle) {
  const end = follow(url, (kind, data) => {
    if (data.seq <= until && kind !== "job.snapshot" && kind !== "stream.gap") handle(kind, data);
    if (data.seq >= until) end();
  }, () => {}, 0);
  return end;
}

/** Sends something once: by its key, a second attempt after a broken connection finds the first one's job. */
export async function send(url, body = {}) {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": newKey() };
  for (let tries = 3; ; tries--) {
    try {
      const response = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
      const answer = await response.json();
      return response.ok ? { job: answer } : { refusal: answer.errors?.[0]?.detail ?? answer.detail ?? answer.title };
    } catch {
      if (tries === 1) return { refusal: "The API does not answer. Try again in a moment." };
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
}

const newKey = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(16)).join("-");
