/**
 * The page of the research agent: asks, follows the job, and shows what it does.
 *
 * All of a job's state comes from its event stream, so a reload loses nothing: the first event, `job.snapshot`, holds
 * the job and what its newest attempt has said so far. Texts are only ever put in as texts, never as HTML.
 */

import { follow, readLog, send } from "./stream.js";
import { make, showText } from "./text.js";

const REASONS = {
  rate_limited: (seconds) => (seconds ? `The provider asked to wait ${seconds} s; the agent goes on by itself.`
    : "The provider's time is over; the agent goes on any moment now."),
  worker_lost: () => "The worker was lost; another one goes on. What is finished is not paid for again.",
};
/** A running job that says nothing for so long is shown to be silent. */
const QUIET_SECONDS = 5;

const $ = (id) => document.getElementById(id);
let stop = () => {};

// ------------------------------------------------------------------------------------------------------- the job

/** Shows one job. */
function show(id, question) {
  const url = `jobs/${encodeURIComponent(id)}/events`;
  const view = new View(question);
  const ends = [];
  ends.push(follow(url, (kind, data) => {
    if (kind === "job.snapshot") ends.push(readLog(url, data.seq, (...past) => view.note(...past)));
    else view.note(kind, data);
    view.take(kind, data);
  }, (state) => view.connected(state)));
  const clock = setInterval(() => view.tick(), 250);
  $("cancel").onclick = () => cancel(id, view);
  return () => {
    ends.forEach((end) => end());
    clearInterval(clock);
  };
}

/** What is seen of a job. */
class View {
  constructor(question) {
    this.job = { status: "queued", attempt: 0 };
    this.step = null;
    this.heard = Date.now();
    this.clear();
    $("asked").textContent = question ?? "…";
    for (const hidden of ["waiting", "connection", "failure", "refusal"]) $(hidden).hidden = true;
    $("log").replaceChildren();
    $("job").hidden = false;
    this.draw();
  }

  /** What was said before counts no more. */
  clear() {
    this.plan = [];
    this.findings = [];
    this.text = "";
    this.blocks = [];
    $("report").replaceChildren();
  }

  take(kind, data) {
    this.heard = Date.now();
    if (kind === "job.snapshot" || kind === "stream.gap" || kind === "job.completed") {
      this.job = data;
      this.step = data.progress_detail?.step ?? null;
      if ("output" in data) this.showOutput(data.output);
    } else if (kind === "job.status") {
      this.job = { ...this.job, scheduled_at: null, error: null, error_code: null, ...data };
    } else if (kind === "job.attempt") {
      this.job.attempt = data.attempt;
      this.clear();
    } else if (kind === "job.progress") {
      this.job.progress = data.progress ?? this.job.progress;
      this.step = data.progress_detail?.step ?? null;
    } else if (kind === "job.output") {
      this.piece(data);
    }
    this.draw();
  }

  showOutput(output) {
    this.clear();
    for (const piece of output?.pieces ?? []) this.piece(piece);
  }

  /** A token of the report, or something that the agent tells as data. */
  piece({ text, data }) {
    if (text !== undefined) this.text += text;
    else if (data.question) $("asked").textContent = data.question;
    else if (data.plan) this.plan = data.plan;
    else if (data.finding) this.findings.push(data.finding);
  }

  // -- drawing

  draw() {
    const { status, attempt, completed_at: over, cancel_requested_at, cancel_requested } = this.job;
    $("status").textContent = status;
    $("status").dataset.status = status;
    $("attempt").textContent = attempt > 1 ? `attempt ${attempt}` : "";
    $("cancel").hidden = Boolean(over);
    $("cancel").disabled = Boolean(cancel_requested_at || cancel_requested);
    $("report").setAttribute("aria-busy", String(!over));
    this.drawProgress(over);
    this.drawSteps();
    if (over) this.drawEnd();
    // Until the report begins, there is what has been found for it.
    const found = this.findings.map(({ question, answer }) => `## ${question}\n\n${answer}`).join("\n\n");
    showText($("report"), this.text || found, this.blocks);
    this.tick();
  }

  drawProgress(over) {
    const done = this.plan.length ? 1 + this.findings.length : 0;
    if (over) $("progress").value = this.job.status === "success" ? 1 : done / (this.plan.length + 2);
    else if (done) $("progress").value = done / (this.plan.length + 2);
    else $("progress").removeAttribute("value");
  }

  drawSteps() {
    const done = this.job.status === "success";
    const steps = [
      ["Plan", this.plan.length > 0],
      ...this.plan.map((question, n) => [question, n < this.findings.length, this.findings[n]?.sources.join(", ")]),
      ["Report", done],
    ];
    const now = this.job.status === "running" ? steps.findIndex(([, finished]) => !finished) : -1;
    $("steps").replaceChildren(...steps.map(([name, finished, more], n) => {
      const item = make("li", name);
      item.dataset.state = finished ? "done" : n === now ? "now" : "later";
      if (n === now) item.setAttribute("aria-current", "step");
      if (more) item.append(make("small", more));
      return item;
    }));
  }

  drawEnd() {
    const { status, error, result } = this.job;
    if (status === "success" && result && result.report !== this.text) this.text = result.report;
    const what = status === "revoked" ? "It was cancelled." : `It failed: ${error?.message ?? "no reason is known"}`;
    $("failure").hidden = status === "success";
    $("failure").textContent = status === "success" ? "" : what;
  }

  /** What changes by itself as time passes. */
  tick() {
    const { status, scheduled_at: due, error, error_code: code = error?.code } = this.job;
    const seconds = Math.max(0, Math.ceil((Date.parse(due) - Date.now()) / 1000));
    const waits = status === "queued" && (due || code);
    const reason = REASONS[code] ?? ((left) => `It did not work (${code ?? "delayed"}); tried again in ${left} s.`);
    setText("waiting", waits ? reason(seconds || 0) : "");
    $("waiting").hidden = !waits;
    const quiet = Math.floor((Date.now() - this.heard) / 1000);
    const silent = status === "running" && quiet >= QUIET_SECONDS ? ` · nothing new for ${quiet} s` : "";
    const doing = { running: `${this.step ?? ""}${silent}`, queued: waits ? "" : "waiting for a worker" };
    setText("doing", doing[status] ?? "");
  }

  connected(state) {
    $("connection").hidden = state === "open" || Boolean(this.job.completed_at);
    setText("connection", state === "gone" ? "This job is not known, or not any more."
      : "The connection is lost; the agent goes on, and the page comes back by itself.");
  }

  /** A line in the log, for what is worth one. */
  note(kind, data) {
    const why = data.cancel_requested ? "cancel requested" : data.error_code;
    const said = {
      "job.log": () => [data.message, data.level, data.fields],
      "job.attempt": () => [`Begins again (attempt ${data.attempt}); finished steps are kept`, "note"],
      "job.status": () => [data.status + (why ? `: ${why}` : ""), "note"],
      "job.completed": () => [data.status, "note"],
    }[kind];
    if (!said) return;
    const [message, level, fields] = said();
    const line = make("li", [message, ...Object.entries(fields ?? {}).map(([name, value]) =>
      `${name}: ${[value].flat().join(", ")}`)].join(" · "));
    line.dataset.level = level;
    line.dataset.seq = data.seq;
    const later = [...$("log").children].find((other) => Number(other.dataset.seq) > data.seq);
    $("log").insertBefore(line, later ?? null);
    if (!later) $("log").scrollTop = $("log").scrollHeight;
  }
}

/** Screen readers read what changes, so what stays is left alone. */
function setText(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

// ---------------------------------------------------------------------------------------------------- the buttons

async function ask(event) {
  event.preventDefault();
  const question = $("question").value.trim();
  const button = event.target.querySelector("button");
  button.disabled = true;
  const { job, refusal } = await send("jobs/research", { question });
  button.disabled = false;
  setText("refusal", refusal ?? "");
  $("refusal").hidden = !refusal;
  if (!job) return;
  event.target.reset();
  history.pushState({ question }, "", `?job=${encodeURIComponent(job.job_id)}`);
  start();
}

async function cancel(id, view) {
  $("cancel").disabled = true;
  const { refusal } = await send(`jobs/${encodeURIComponent(id)}/cancel`);
  if (refusal && !view.job.completed_at) {
    setText("failure", refusal);
    $("failure").hidden = false;
    $("cancel").disabled = false;
  }
}

/** Shows the job that the address names. */
function start() {
  stop();
  const id = new URLSearchParams(location.search).get("job");
  $("job").hidden = !id;
  stop = id ? show(id, history.state?.question) : () => {};
}

$("ask").addEventListener("submit", ask);
addEventListener("popstate", start);
start();
