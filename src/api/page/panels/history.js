// What events and the status tell of the past: the states of regions, or of backends where there are no regions, and their overrides.
// Nothing is said of the time before the first evidence, and of that when the node did not run.

import { overridesOf } from "../health.js";
import { clock, list, overrideState } from "../words.js";

// How much earlier than the status says the node may have started: it counts whole seconds, and answers a while after it counts.
const ROUNDING = 3000;

// When an override was set, by its event and by the status.
const SAME = 5000;

// `{ subject, label, isProbed, states, overrides, changed }` for each, that which changed last first. States are `{ start, end, state }`,
// overrides `{ start, end, action, share, by }`, both oldest first; `end` is `Infinity` for what lasts.
export function histories(events, status, at) {
  const runs = runsOf(events, at - status.node.uptime_s * 1000);
  const targets = overridesByTarget(events, status, runs.at(-1));
  const transitionsOf = transitionsBySubject(events);
  const within = (spans) => overlap(spans ?? [], runs);
  const found = subjects(status).map(({ verdict, since, parts = [], ...subject }) => {
    const transitions = transitionsOf.get(subject.subject) ?? [];
    const states = subject.isProbed ? statesIn(runs, transitions, { verdict, since }) : [];
    const overrides = [...within(allWithdrawn(parts.map((part) => targets.get(part) ?? []))), ...within(targets.get(subject.subject))];
    const times = [...transitions.map(({ time }) => time), ...overrides.flatMap(({ start, end }) => [start, end])].filter((time) => time <= at);
    return { ...subject, states, overrides, changed: Math.max(0, ...times) };
  });
  return found.sort((a, b) => b.changed - a.changed);
}

// What has a history, by the names that events have for it. `parts` are the targets that withdraw it together.
function subjects({ regions, pools }) {
  const moment = (time) => (time ? Date.parse(time) : 0);
  if (regions.length > 0) {
    return regions.map(({ name, verdict, since, probed, endpoints = [] }) => ({
      subject: `region/${name}`, label: name, isProbed: probed !== false, verdict, since: moment(since),
      parts: endpoints.map((endpoint) => `endpoint/${name}/${endpoint.name}`),
    }));
  }
  return pools.flatMap((pool) => pool.backends.map(({ name, verdict, probed, addresses }) => ({
    subject: `pool/${pool.name}/${name}`, label: name, isProbed: probed !== false, verdict,
    since: Math.max(0, ...addresses.map(({ since }) => moment(since))),
  })));
}

// When the node ran, as far as it is known, oldest first. In the last run it is still. `isWhole` says that all of its events are known.
//
// A run ends where its event says so; one that broke off, with its last event.
function runsOf(events, started) {
  const runs = [];
  let open = null;
  const close = (end) => {
    if (open) runs.push({ ...open, end });
    open = null;
  };
  const told = events.some(({ event, at }) => event === "node_started" && Date.parse(at) >= started - ROUNDING);
  let [isCurrent, isStopped, last] = [false, false, 0];
  for (const { event, at } of events) {
    const time = Date.parse(at);
    if (!told && !isCurrent && time >= started - ROUNDING) {
      close(last);
      [open, isCurrent, isStopped] = [{ start: Math.min(started, time), isWhole: false, known: time }, true, false];
    }
    if (event === "node_started") {
      close(last);
      [open, isStopped, last] = [{ start: time, isWhole: true }, false, time];
    } else if (event === "node_stopped") {
      close(time);
      isStopped = true;
    } else if (event !== "expire" && !isStopped) {
      // What expired while the node did not run is told when it starts again, just before that.
      open ??= { start: time, isWhole: false, known: time };
      last = time;
    }
  }
  if (!told && !isCurrent) {
    close(last);
    open = { start: started, isWhole: true };
  }
  open ??= { start: started, isWhole: true };
  return [...runs, { ...open, end: Infinity }];
}

function transitionsBySubject(events) {
  const subjects = new Map();
  for (const { event, at, fields } of events) {
    if (event !== "transition") continue;
    if (!subjects.has(fields.subject)) subjects.set(fields.subject, []);
    subjects.get(fields.subject).push({ time: Date.parse(at), from: stateIn(fields.from), to: stateIn(fields.to) });
  }
  return subjects;
}

// The states of a subject in each run. A node that starts again goes on with the verdicts that it saved: one that tells of no transition
// had that with which the next one began.
function statesIn(runs, transitions, { verdict, since }) {
  const states = [];
  let next = null;
  for (const run of [...runs].reverse()) {
    const isLast = next === null;
    const inRun = transitions.filter(({ time }) => time >= run.start && time < run.end);
    const spans = inRun.map(({ time, to }, place) => ({ start: time, end: inRun[place + 1]?.time ?? run.end, state: to }));
    const [first] = inRun;
    if (first) {
      spans.unshift({ start: run.isWhole ? run.start : run.known, end: first.time, state: first.from });
      next = first.from;
    } else {
      next = isLast ? verdict : next;
      spans.push({ start: isLast ? Math.max(run.start, since) : run.start, end: run.end, state: next });
    }
    states.unshift(...spans.filter(({ start, end, state }) => start < end && state !== "unknown"));
  }
  return states;
}

// "down (hard)" and "down (soft)" are down.
const stateIn = (text) => text.split(/\W/)[0];

// The overrides of each target, oldest first.
function overridesByTarget(events, status, run) {
  const targets = new Map();
  const active = new Map();
  const seen = [];
  const end = (target, time) => {
    const span = active.get(target);
    if (span) span.end = time;
    active.delete(target);
  };
  const add = (target, span) => {
    if (!targets.has(target)) targets.set(target, []);
    targets.get(target).push(span);
    active.set(target, span);
  };
  for (const { event, at, fields } of events) {
    const time = Date.parse(at);
    if (event === "override") {
      end(fields.target, time);
      add(fields.target, { start: time, end: Infinity, action: fields.action, share: fields.share ?? "100%", by: fields.by });
      seen.push({ number: Number(fields.number), time });
    } else if (event === "restore" || event === "expire") {
      // The event that it was set may no longer be kept.
      if (!active.has(fields.target)) add(fields.target, { start: -Infinity, action: fields.action, share: fields.share ?? "100%" });
      end(fields.target, time);
    }
  }
  const current = overridesOf(status);
  for (const { id, target, action, share, by, created } of current) {
    const start = Date.parse(created);
    if (!seen.some(({ number, time }) => number === id && Math.abs(time - start) < SAME)) add(target, { start, end: Infinity, action, share, by });
  }
  // One that an earlier run did not save is gone with it.
  for (const [target, span] of active) {
    if (span.start < run.start && !current.some((override) => override.target === target)) span.end = run.start;
  }
  return targets;
}

// When all of several things were withdrawn.
function allWithdrawn(parts) {
  const withdrawn = parts.map((spans) => spans.filter(({ action, share }) => action === "down" || (action === "drain" && share === "100%")));
  return withdrawn.length === 0 ? [] : withdrawn.reduce((all, spans) => overlap(all, spans));
}

// The parts of the first spans that lie in any of the second.
function overlap(spans, others) {
  const parts = spans.flatMap((span) => others.map((other) => {
    const action = span.action === "down" && other.action === "drain" ? "drain" : span.action;
    return { ...span, action, start: Math.max(span.start, other.start), end: Math.min(span.end, other.end) };
  }));
  return parts.filter(({ start, end }) => start < end);
}

// A history since `begin`, in words.
export function told({ label, isProbed, states, overrides }, begin, at) {
  const since = (spans) => spans.filter(({ end, start }) => end > begin && start < at).map((span) => ({ ...span, start: Math.max(span.start, begin) }));
  const when = ({ start, end }) => {
    const from = start > begin ? `from ${clock(start, at)}` : "";
    return [from, end < at ? `until ${clock(end, at)}` : "until now"].filter(Boolean).join(" ");
  };
  const found = since(states).map((span) => `${span.state} ${when(span)}`);
  const health = isProbed ? list(found) || "not known" : "not probed";
  const changes = since(overrides).map((span) => `${overrideState(span)} ${when(span)}`);
  return `${label}: ${[health, ...changes].join("; ")}`;
}
