// What the page knows. There is one store; whoever shows a part of it renders again when that part changes.

import { useEffect, useState } from "./lib.js";

// Events that are kept; a node keeps as many.
const MOST_EVENTS = 1000;

let state = {
  // Whether the page hears from the node: "connecting", "live", "lost", or "locked" if reads need a token.
  link: { state: "connecting", since: Date.now(), why: "" },
  // GET /v1/status, and when it was answered by the node's clock.
  status: null,
  at: Date.now(),
  // What of it deserves attention.
  findings: [],
  // GET /v1/map of the chosen service; `null` until it is known. With `problem` if the node cannot tell: then it is the last.
  service: null,
  map: null,
  // The change that is looked at before it is made: `{ target, action, share, plan, madeIn }`. `madeIn` is the first epoch with it, once it is made.
  preview: null,
  // What happened, oldest first.
  events: [],
  // Who the node takes this page for: `{ by, role }`; `null` until it has said so.
  self: null,
  // Whether the node no longer knows the token that was typed. It is gone then.
  isTokenRefused: false,
};

const readers = new Set();

export const current = () => state;

// Replaces parts of the state. Parts that are equal to what is there stay the same objects.
export function update(parts) {
  const next = { ...state };
  for (const [name, value] of Object.entries(parts)) next[name] = reuse(state[name], value);
  if (Object.keys(next).every((name) => next[name] === state[name])) return;
  state = next;
  for (const read of [...readers]) read(state);
}

export function addEvents(added) {
  const last = state.events.at(-1)?.id ?? -1;
  const fresh = added.filter((event) => event.id > last);
  if (fresh.length > 0) update({ events: [...state.events, ...fresh].slice(-MOST_EVENTS) });
}

// What `select` returns for the state. It must return a part of it, or a plain value.
export function useStore(select) {
  const [selected, setSelected] = useState(() => select(state));
  useEffect(() => {
    const read = (state) => setSelected(() => select(state));
    read(state);
    readers.add(read);
    return () => readers.delete(read);
  }, []);
  return selected;
}

// `after`, but with the objects of `before` wherever nothing in them differs.
function reuse(before, after) {
  if (Object.is(before, after)) return before;
  if (typeof before !== "object" || typeof after !== "object" || !before || !after) return after;
  if (Array.isArray(before) !== Array.isArray(after)) return after;
  const names = Object.keys(after);
  let isSame = names.length === Object.keys(before).length;
  const result = Array.isArray(after) ? [] : {};
  for (const name of names) {
    result[name] = reuse(before[name], after[name]);
    isSame &&= name in before && Object.is(result[name], before[name]);
  }
  return isSame ? before : result;
}
