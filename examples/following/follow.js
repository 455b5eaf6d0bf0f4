/**
 * Follows a job with the browser's own EventSource.
 *
 * It comes back by itself when a connection breaks, and goes on where it was; but an answer such as 502 or 503, which a
 * proxy gives during a deployment, ends it for good. So it is made anew then.
 *
 * @param {string} url - `urls.events` of the job
 * @param {Object<string, function(Object)>} handlers - by the name of the event; each is given the event's data
 * @param {number} attempts - how often to ask again for a stream that is refused
 * @returns {function()} call it to stop
 */
export function follow(url, handlers, attempts = 30) {
  let source = null;
  let last = null;
  let left = attempts;
  let timer = null;

  function open() {
    const where = new URL(url, location);
    if (last !== null) where.searchParams.set("starting_after", last);
    source = new EventSource(where);
    for (const [kind, handle] of Object.entries({ "job.completed": () => {}, ...handlers })) {
      source.addEventListener(kind, (event) => {
        last = event.lastEventId;
        left = attempts;
        if (kind === "job.completed") source.close();
        handle(JSON.parse(event.data));
      });
    }
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED && left-- > 0) timer = setTimeout(open, pause());
    };
  }

  open();
  return () => {
    clearTimeout(timer);
    source.close();
  };
}

/**
 * Handlers for `follow` that collect what the job gives out, such as the tokens of a model.
 *
 * However often the connection breaks or the page is loaded anew, all of it is there, once and in order. What an attempt
 * gave out is void when the next one begins.
 *
 * @param {function(string, Object[])} show - called with all text so far, and with all pieces in a new array; each piece
 *   has `text` or `data`
 * @param {Object<string, function(Object)>} handlers - of your own, called as well
 * @returns {Object<string, function(Object)>} handlers for `follow` and `followWithHeaders`
 */
export function withOutput(show, handlers = {}) {
  let text = "";
  let pieces = [];
  const begin = (given) => {
    pieces = given;
    text = given.map((piece) => piece.text ?? "").join("");
  };
  const add = ({ text: more, data }) => {
    const last = pieces.at(-1);
    if (more === undefined) pieces = [...pieces, { data }];
    else if (last?.text === undefined) pieces = [...pieces, { text: more }];
    else pieces = [...pieces.slice(0, -1), { text: last.text + more }];
    text += more ?? "";
  };
  const collect = {
    "job.snapshot": ({ output }) => begin(output?.pieces ?? []),
    "stream.gap": ({ output }) => begin(output?.pieces ?? []),
    "job.attempt": () => begin([]),
    "job.output": add,
  };
  const both = Object.entries(collect).map(([kind, take]) => [
    kind,
    (data) => {
      take(data);
      show(text, pieces);
      handlers[kind]?.(data);
    },
  ]);
  return { ...handlers, ...Object.fromEntries(both) };
}

/**
 * The same as `follow`, but with `fetch`, where requests need a header: an EventSource cannot send any.
 *
 * @param {string} url - `urls.events` of the job
 * @param {Object<string, function(Object)>} handlers - by the name of the event; each is given the event's data
 * @param {RequestInit} options - for `fetch`: headers, and a signal to stop with
 */
export async function followWithHeaders(url, handlers, options = {}) {
  let last = null;
  let ended = false;
  while (!ended) {
    const headers = new Headers(options.headers);
    if (last !== null) headers.set("Last-Event-ID", last);
    try {
      const response = await fetch(url, { ...options, headers, cache: "no-store" });
      if (response.status === 204) return;
      if (response.status < 500 && !response.ok) throw new Refused(response);
      if (response.ok) {
        for await (const { id, event, data } of eventsOf(response.body)) {
          last = id;
          handlers[event]?.(JSON.parse(data));
          ended = event === "job.completed";
        }
      }
    } catch (error) {
      if (error instanceof Refused || options.signal?.aborted) throw error;
    }
    if (!ended) await new Promise((resolve) => setTimeout(resolve, pause()));
  }
}

/** One to three seconds, so that clients do not all come back at once. */
const pause = () => 1000 + 2000 * Math.random();

/** The API will not let this caller follow the job, however often it asks; `response` says why. */
export class Refused extends Error {
  constructor(response) {
    super(`${response.url} answered ${response.status}`);
    this.response = response;
  }
}

/** The events in a stream of bytes. One that was cut off is left out; it comes again after the reconnection. */
async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s)));
      if (fields.event) yield fields;
    }
  }
}
