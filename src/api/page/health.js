// What a status means: what is wrong, what is unusual, and the one line that says so.

import { count, list, overrideOrigin, overrideState, sentence, shortName } from "./words.js";

// From worst to best. Each has a sign and a word besides its colour.
export const LEVELS = {
  bad: { sign: "✕", word: "down" },
  watch: { sign: "▲", word: "attention" },
  unknown: { sign: "?", word: "unknown" },
  well: { sign: "✓", word: "well" },
  unprobed: { sign: "○", word: "not probed" },
};

// Whether a level needs nobody's attention.
export const isFine = (level) => level === "well" || level === "unprobed";

// What probes found of a region, an endpoint, a backend or an address, and the level of that. What has no probes counts as up.
export const foundOf = ({ verdict, probed }) => (probed === false ? "not probed" : verdict);

export const levelOf = ({ verdict, probed }) => (probed === false ? "unprobed" : levelOfVerdict(verdict));

function levelOfVerdict(verdict) {
  return { up: "well", degraded: "watch", down: "bad", unobserved: "watch" }[verdict] ?? "unknown";
}

// The level of a region, whose override or safety rule counts, too.
export function regionLevel(region) {
  if (region.usable === "no") return region.verdict === "down" || region.override?.action === "down" ? "bad" : "watch";
  if (region.held || region.override || region.usable === "reduced") return "watch";
  return levelOf(region);
}

// The state of a region in a few words.
export function regionState(region) {
  const { held, override } = region;
  const parts = [foundOf(region)];
  if (override) parts.push(overrideState(override));
  else if (isWithdrawn(region)) parts.push(byEndpoints(region));
  if (held) parts.push(`held by ${held}`);
  return parts.join(", ");
}

// Whether operators withdrew a region, itself or all of its endpoints.
const isWithdrawn = ({ usable, held, verdict }) => usable === "no" && !held && verdict !== "down";

// When its verdict began or, where operators withdrew it, when they had.
export function began(region) {
  if (!isWithdrawn(region)) return region.since;
  const withdraws = (override) => override?.action === "down" || (override?.action === "drain" && override.share === "100%");
  const overrides = withdraws(region.override) ? [region.override] : region.endpoints.map(({ override }) => override).filter(withdraws);
  // Times are written alike.
  return overrides.map(({ created }) => created).sort().at(-1) ?? region.since;
}

function byEndpoints({ endpoints }) {
  const isDrained = endpoints.some(({ override }) => override?.action === "drain" && override.share === "100%");
  return isDrained ? "drained" : "forced down";
}

// Every override that a status shows, once.
export function overridesOf({ regions, services, pools }) {
  const targets = [
    ...regions.flatMap((region) => [region, ...region.endpoints]),
    ...services.flatMap((service) => service.regions),
    ...pools.flatMap((pool) => pool.backends),
  ];
  return targets.flatMap(({ override }) => override ?? []).sort((a, b) => a.id - b.id);
}

// What deserves attention: `{ level, what, why, override? }`, the worst first.
export function findings(status, now) {
  const found = [...regionFindings(status.regions), ...poolFindings(status.pools, now)];
  // Held regions, pools without a backend and certificates are among the alarms.
  for (const alarm of status.alarms) found.push({ level: "bad", what: sentence(alarm), why: "" });
  for (const override of overridesOf(status)) {
    const what = `${override.target} is ${overrideState(override)}`;
    found.push({ level: "watch", what, why: overrideOrigin(override, now), override });
  }
  const order = Object.keys(LEVELS);
  return found.sort((a, b) => order.indexOf(a.level) - order.indexOf(b.level));
}

function regionFindings(regions) {
  return regions.flatMap((region) => {
    const { name, verdict, held, endpoints } = region;
    if (verdict === "down" && !held) {
      return [{ level: "bad", what: `${name} is down`, why: evidence(endpoints), region: name, since: region.since }];
    }
    if (verdict === "degraded") {
      return [{ level: "watch", what: `${name} is degraded`, why: evidence(endpoints), region: name, since: region.since }];
    }
    return verdict === "up" ? parts(`${name}/`, endpoints) : [];
  });
}

function poolFindings(pools, now) {
  return pools.flatMap(({ name, backends, serves }) => [
    ...(serves ? parts(`pool/${name}/`, backends) : []),
    ...backends.flatMap(({ name: backend, ejected }) => ejected.map((it) => ({
      level: "watch", what: `${backend} is ejected from pool ${name}`, why: overrideOrigin({ until: it.until }, now) + `: ${it.evidence}`,
    }))),
  ]);
}

// The addresses that fail though what they belong to serves.
function parts(prefix, owners) {
  return owners.flatMap(({ name, addresses }) => addresses
    .filter(({ verdict }) => ["down", "degraded", "unobserved"].includes(verdict))
    .map((it) => ({
      level: "watch",
      what: `${prefix}${name}${addresses.length > 1 ? ` (${it.address})` : ""} is ${it.verdict}`,
      why: it.evidence,
      since: it.since,
    })));
}

// Why addresses are not up: that of the first.
export function evidence(owners) {
  const addresses = owners.flatMap((owner) => owner.addresses);
  const failing = addresses.filter(({ verdict }) => verdict !== "up");
  return (failing[0] ?? addresses[0])?.evidence ?? "";
}

// The status line: `{ level, headline, detail }`.
export function summary({ link, status, findings: found }) {
  const apart = linkSummary(link, status);
  if (apart) return apart;
  if (!status.node.ready) {
    return { level: "unknown", headline: "Starting", detail: "Waiting for the first result of every check" };
  }
  const [worst] = found;
  if (!worst) return { level: "well", headline: "All well", detail: inventory(status) };
  const others = found.length > 1 ? ` · ${count(found.length - 1, "more finding")}` : "";
  if (worst.level === "bad") {
    const down = found.filter((it) => it.level === "bad" && it.region).map((it) => it.region);
    // An alarm says so if some clients are not.
    const served = status.services.length > 0 && status.alarms.length === 0 ? " · every client is still served" : "";
    return { level: "bad", headline: badHeadline(down, status, worst), detail: (worst.why || inventory(status)) + served + others };
  }
  return { level: "watch", headline: "All clients are served", detail: (worst.why ? `${worst.what}: ${worst.why}` : worst.what) + others };
}

function linkSummary({ state, why }, status) {
  if (state === "locked") return { level: "unknown", headline: "This node needs a token", detail: sentence(why) };
  if (state === "lost") {
    const detail = status ? "What is shown is the last that was heard; the page keeps trying" : sentence(why);
    return { level: "bad", headline: "The node does not answer", detail };
  }
  if (!status) return { level: "unknown", headline: "Connecting", detail: "Asking the node for its status" };
  return null;
}

function badHeadline(down, { regions }, worst) {
  if (down.length === 0) return worst.what;
  if (down.length === regions.length && down.length > 1) return "Every region is down";
  if (down.length > 2) return `${down.length} of ${regions.length} regions are down`;
  return `${list(down)} ${down.length > 1 ? "are" : "is"} down`;
}

// "3 regions serve www.demo.test; every probe passes"
function inventory({ regions, services, pools }) {
  const parts = [];
  if (services.length > 0) {
    const what = services.length === 1 ? shortName(services[0].name) : count(services.length, "service");
    parts.push(`${count(regions.length, "region")} for ${what}`);
  }
  if (pools.length > 0) parts.push(count(pools.length, "pool"));
  return parts.join(", ") || "Nothing is configured";
}
