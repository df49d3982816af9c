// Keeps the page true and the focus where it was. Every page works without it; nothing is decided here.

const REFRESH_MS = 1000;
const policy = globalThis.trustedTypes?.createPolicy("countersign", { createHTML: (text) => text });
const trusted = (text) => (policy ? policy.createHTML(text) : text);

let busy = false;
let again = false;
let timer;

/** Fetches `url` and puts its live parts in place of this page's. */
async function show(url, moved) {
  if (busy) { again = true; return; }
  busy = true;
  try {
    const answer = await fetch(url, { headers: { "x-countersign-refresh": "1" }, redirect: "follow" });
    const path = new URL(answer.url).pathname;
    if (!answer.ok && answer.status !== 404) return;
    if (path !== location.pathname) { location.assign(answer.url); return; }
    const fresh = new DOMParser().parseFromString(trusted(await answer.text()), "text/html");
    const focus = remember();
    for (const part of document.querySelectorAll("[data-live]")) replace(part, fresh.getElementById(part.id), moved);
    document.querySelector(".queue")?.classList.toggle("chosen", new URL(url, location).searchParams.has("at"));
    restore(focus);
    tick();
  } catch {
    // The server is away: what is shown stays, and the stream's reconnect tries again.
  } finally {
    busy = false;
    if (again) { again = false; soon(); }
  }
}

/** A half-written reason outlives a refresh, unless the question itself has changed. */
function replace(part, fresh, moved) {
  if (!fresh) return;
  const same = part.dataset.version !== undefined && part.dataset.version === fresh.dataset.version;
  if (same && !moved) return;
  if (part.innerHTML === fresh.innerHTML && part.hidden === fresh.hidden) return;
  part.replaceWith(document.adoptNode(fresh));
}

function remember() {
  const at = document.activeElement;
  return at?.id ? { id: at.id, start: at.selectionStart, end: at.selectionEnd } : undefined;
}

function restore(focus) {
  if (!focus || document.activeElement?.id === focus.id) return;
  const at = document.getElementById(focus.id);
  at?.focus({ preventScroll: true });
  if (at?.setSelectionRange && focus.start !== null && focus.start !== undefined) at.setSelectionRange(focus.start, focus.end);
}

function soon() {
  clearTimeout(timer);
  timer = setTimeout(() => show(shown()), REFRESH_MS);
}

/** This page's address, with the question that it shows: a worse one must not take its place while somebody reads. */
function shown() {
  const url = new URL(location.href);
  const question = document.getElementById("detail")?.dataset.question;
  if (question && !url.searchParams.has("at")) url.searchParams.set("seen", question);
  return url.href;
}

/** Says a change to those who hear the page, once, politely. */
function announce(text) {
  const at = document.getElementById("announcer");
  if (at && at.textContent !== text) at.textContent = text;
}

let open;
function watch() {
  if (!document.querySelector("[data-live]")) return;
  const stream = new EventSource("/console/events");
  stream.addEventListener("changed", (event) => {
    const now = JSON.parse(event.data);
    if (open !== undefined && now.open !== open) announce(now.open === 1 ? "1 question is open" : `${now.open} questions are open`);
    open = now.open;
    soon();
  });
}

function span(seconds) {
  const [d, h, m, s] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60];
  if (d) return `${d} d ${h} h`;
  if (h) return `${h} h ${m} min`;
  if (m >= 10) return `${m} min`;
  return m ? `${m} min ${s} s` : `${s} s`;
}

/** Times as text, as the server writes them. */
function tick() {
  const now = Date.now();
  for (const at of document.querySelectorAll("time[data-until]")) {
    const left = Math.floor((Date.parse(at.dataset.until) - now) / 1000);
    at.textContent = left > 0 ? `${span(left)} left` : "time is up";
  }
  for (const at of document.querySelectorAll("time[data-since]")) {
    const since = Math.floor((now - Date.parse(at.dataset.since)) / 1000);
    at.textContent = since < 5 ? "just now" : `${span(since)} ago`;
  }
}

/** The next or previous question. */
function step(by) {
  const rows = [...document.querySelectorAll("[data-row]")];
  const at = rows.findIndex((row) => row.getAttribute("aria-current"));
  const next = rows[Math.min(rows.length - 1, Math.max(0, at + by))];
  if (!next) return;
  history.replaceState(null, "", next.href);
  next.focus();
  show(next.href, true);
}

// Keys lead to a button and never press it: an approval is never one slip of the hand away.
const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  a: () => document.getElementById("approve")?.focus(),
  d: () => document.getElementById("reason")?.focus(),
  "?": () => document.getElementById("help")?.showModal(),
};

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches?.("input, select, textarea, [contenteditable]");
  if (typing && event.key === "Escape") event.target.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const act = KEYS[event.key];
  if (!act || !document.querySelector(".queue")) return;
  event.preventDefault();
  act();
});

// A question that the script has put in place is a step that “back” can undo.
document.addEventListener("click", (event) => {
  const row = event.target.closest?.("[data-row]");
  if (!row || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  history.pushState(null, "", row.href);
  show(row.href, true);
});
addEventListener("popstate", () => show(location.href, true));

setInterval(tick, 1000);
tick();
watch();
