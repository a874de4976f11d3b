// Numbers, times and names as people read them.

const UNITS = [["d", 86_400], ["h", 3600], ["m", 60], ["s", 1]];

// "3h 12m", "45s"
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const at = UNITS.findIndex(([, size]) => whole >= size);
  if (at < 0) return "0s";
  const [unit, size] = UNITS[at];
  const [smaller, part] = UNITS[at + 1] ?? [];
  const rest = smaller ? Math.floor((whole % size) / part) : 0;
  return `${Math.floor(whole / size)}${unit}${rest > 0 ? ` ${rest}${smaller}` : ""}`;
}

// The same in one unit: "3h".
export const age = (time, now) => duration((now - Date.parse(time)) / 1000).split(" ")[0];

export const since = (time, now) => duration((now - Date.parse(time)) / 1000);

// "14:03:22Z", with the date if that is not today's. UTC, as on the command line and in logs.
export function clock(time, now) {
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return String(time);
  const [day, hours] = at.toISOString().split("T");
  const today = new Date(now).toISOString().slice(0, 10);
  return `${day === today ? "" : `${day} `}${hours.slice(0, 8)}Z`;
}

// "31%", "0.4%"
export function percent(share) {
  const value = share * 100;
  if (value > 0 && value < 0.1) return "<0.1%";
  return `${value < 10 && value % 1 !== 0 ? value.toFixed(1).replace(/\.0$/, "") : Math.round(value)}%`;
}

export function milliseconds(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return "–";
  return `${ms < 10 ? ms.toFixed(ms < 0.1 ? 2 : 1) : Math.round(ms)} ms`;
}

// "12/s", "0.4/s"
export const rate = (perSecond) => `${perSecond > 0 && perSecond < 10 ? perSecond.toFixed(1) : Math.round(perSecond)}/s`;

export const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

// "a, b and c"
export function list(names) {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

// With a capital letter, unless it begins with a name such as region/eu-west, lb.example.net or min_regions.
export const sentence = (text) => (/^\S*[/._]/.test(text) ? text : text.charAt(0).toUpperCase() + text.slice(1));

const NAMES = new Intl.DisplayNames("en", { type: "region", fallback: "code" });

export function countryName(code) {
  if (code === "ZZ") return "Elsewhere";
  try {
    return NAMES.of(code);
  } catch {
    return code;
  }
}

// A service without the dot at its end, which only name servers need.
export const shortName = (name) => name.replace(/\.$/, "");

const VERBS = { drain: "drained", up: "forced up", down: "forced down" };

// "drained for 25% of its clients"
export function overrideState({ action, share }) {
  return `${VERBS[action]}${action === "drain" && share !== "100%" ? ` for ${share} of its clients` : ""}`;
}

// "by token ci until 14:30:00Z (new kernel)"
export function overrideOrigin({ by, until, reason }, now) {
  const parts = [by && `by ${by}`, until ? `until ${clock(until, now)}` : "until restored", reason && `(${reason})`];
  return parts.filter(Boolean).join(" ");
}

// "eu-west 75%, us-east 25%"
export const regionsText = (regions) => (regions.length === 0 ? "no answer"
  : regions.map(({ region, share }) => (share < 0.995 ? `${region} ${percent(share)}` : region)).join(", "));
