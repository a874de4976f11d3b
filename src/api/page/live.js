// Keeps the store up to date: follows the event stream, and asks for status and map again when something happened.

import { findings } from "./health.js";
import { Problem, events, node, now, token } from "./node.js";
import { addEvents, current, update } from "./store.js";
import { trails } from "./trails.js";

// Between two requests for the status, at least; more if it takes longer to answer.
const SHORTEST_PAUSE = 1000;

// Between two requests while nothing happens: evidence and round-trip times change without events.
const USUAL_PAUSE = 5000;

// Between two requests for the map while no epoch passes, at most: clients go where they went, but how many they are may be
// counted by now.
const RECOUNT = 30_000;

// A large status is asked for less often, so that it takes at most this share of the time.
const BUSIEST = 1 / 20;

const RETRIES = { first: 1000, longest: 15_000 };

let isWanted = false;
let mapAskedAt = 0;
let wake = () => {};
let retry = () => {};

// Asks for status and map as soon as that is allowed.
export function refresh() {
  isWanted = true;
  wake();
}

// Tries to reach the node now, with the token that was typed if there is one.
export function reconnect() {
  update({ self: null });
  retry();
  refresh();
}

export function chooseService(service) {
  if (service === current().service) return;
  update({ service, map: null });
  refresh();
}

export function start() {
  token.onRefused = () => {
    update({ self: null, isTokenRefused: true });
    refresh();
  };
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
  follow();
  keepFresh();
}

async function follow() {
  let wait = RETRIES.first;
  for (;;) {
    try {
      const opened = () => {
        wait = RETRIES.first;
        refresh();
      };
      for await (const found of events(current().events.at(-1)?.id, opened)) {
        addEvents(found.filter((event) => event.event !== "missed"));
        refresh();
      }
    } catch (error) {
      if (!isExpected(error)) throw error;
    }
    // Whether the node can be reached at all, the next request for the status shows.
    refresh();
    await pause(wait, (again) => (retry = again));
    wait = Math.min(wait * 2, RETRIES.longest);
  }
}

async function keepFresh() {
  for (;;) {
    isWanted = false;
    const begun = performance.now();
    await load();
    const took = performance.now() - begun;
    const shortest = Math.max(SHORTEST_PAUSE, took);
    await pause(shortest);
    if (!isWanted) await pause(Math.max(USUAL_PAUSE, took / BUSIEST) - shortest, (again) => (wake = again));
    while (document.hidden && !isWanted) await pause(USUAL_PAUSE, (again) => (wake = again));
  }
}

async function load() {
  try {
    const status = await node.status();
    const at = now();
    if (!current().self) update({ self: await node.whoami() });
    trails.record(status, at);
    const service = chosen(status);
    update({ status, at, findings: findings(status, at), service, link: { state: "live", since: 0, why: "" } });
    if (service && isMapOld(current())) await loadMap(service);
  } catch (error) {
    lose(error);
  }
}

function isMapOld({ map, status, service }) {
  return map?.service !== service || map.epoch !== status.node.epoch || map.basis === "queries"
    || performance.now() - mapAskedAt > RECOUNT;
}

async function loadMap(service) {
  let map;
  mapAskedAt = performance.now();
  try {
    map = await node.map(service);
  } catch (error) {
    if (!error.status || error.needsToken) throw error;
    const { map: last } = current();
    map = { ...(last?.service === service ? last : { service }), epoch: undefined, problem: error.message };
  }
  // Another one may have been chosen meanwhile.
  if (current().service === service) update({ map });
}

// The service that is shown: the one that was chosen, as long as the config has it.
function chosen({ services }) {
  const { service } = current();
  return services.some(({ name }) => name === service) ? service : (services[0]?.name ?? null);
}

const isExpected = (error) => error instanceof Problem || ["AbortError", "TimeoutError"].includes(error.name);

function lose(error) {
  if (!isExpected(error)) throw error;
  const state = error.needsToken ? "locked" : "lost";
  // Another one may have been typed meanwhile.
  if (error.needsToken && error.secret !== token.get()) return refresh();
  const { link } = current();
  const why = error instanceof Problem ? error.message : "the node does not answer";
  update({ link: { state, since: link.state === state ? link.since : Date.now(), why } });
  return undefined;
}

// Waits. `share` gets a function that ends the wait.
function pause(time, share = () => {}) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, time);
    share(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}
