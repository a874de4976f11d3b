// What changed, when and why: bars of the regions' states over time, and the events themselves.

import { html, memo, useMemo, useState } from "../lib.js";
import { useStore } from "../store.js";
import { age, clock } from "../words.js";
import { Rows, Sign } from "./rows.js";
import { Timeline } from "./timeline.js";

// What people look for, by the names of events.
const KINDS = {
  health: { label: "Health", of: ["transition", "ejected", "returned"] },
  overrides: { label: "Overrides", of: ["override", "restore", "expire"] },
  safety: { label: "Safety", of: ["held", "released"] },
  alarms: { label: "Alarms", of: ["alarm", "all_clear"] },
  node: { label: "Node", of: ["node_started", "node_stopped"] },
  config: { label: "Config", of: ["reload", "reload_failed", "resolved", "unresolved", "discovered", "issued"] },
};

const WINDOWS = [[900, "15 min"], [3600, "1 h"], [21_600, "6 h"], [86_400, "24 h"]];

export function Events() {
  const events = useStore((state) => state.events);
  const status = useStore((state) => state.status);
  const at = useStore((state) => state.at);
  const [hidden, setHidden] = useState([]);
  const [search, setSearch] = useState("");
  const [window, setWindow] = useState(WINDOWS[0][0]);
  const shown = useMemo(() => {
    const left = new Set(hidden.flatMap((kind) => KINDS[kind].of));
    const wanted = search.trim().toLowerCase();
    return events.filter(({ event, message }) => !left.has(event) && message.toLowerCase().includes(wanted)).reverse();
  }, [events, hidden, search]);
  const toggle = (kind) => setHidden(hidden.includes(kind) ? hidden.filter((it) => it !== kind) : [...hidden, kind]);
  return html`<section class="panel events" aria-labelledby="events-title">
    <header>
      <h2 id="events-title">What changed</h2>
      <div class="chips" role="group" aria-label="Kinds of events">
        ${Object.entries(KINDS).map(([kind, { label }]) => html`<button key=${kind} class="chip"
          aria-pressed=${!hidden.includes(kind)} onClick=${() => toggle(kind)}>${label}</button>`)}
      </div>
      <input type="search" placeholder="Search" aria-label="Search events" value=${search} onInput=${(event) => setSearch(event.target.value)} />
      <label class="choice"><span class="visually-hidden">Time that the bars show</span>
        <select value=${window} onChange=${(event) => setWindow(Number(event.target.value))}>
          ${WINDOWS.map(([seconds, label]) => html`<option value=${seconds}>${label}</option>`)}</select></label>
    </header>
    ${status && html`<${Timeline} events=${events} status=${status} at=${at} window=${window} />`}
    <${Rows} items=${shown} label="events, newest first" keyOf=${({ id }) => id}
      empty=${events.length === 0 ? "Nothing has changed so far." : "No event is like that."}
      render=${(event) => html`<${Row} event=${event} ago=${age(event.at, at)} now=${at} />`} />
  </section>`;
}

const Row = memo(({ event: { at, message, epoch, event, fields }, ago }) => {
  const { level, sign } = signOf(event, fields);
  const [first, ...rest] = message.split(": ");
  const why = rest.join(": ");
  return html`<div class="main" title=${message}>
    <span class="when"><time datetime=${at}>${clock(at, Date.now())}</time><span class="quiet">${ago} ago</span></span>
    <${Sign} level=${level} word=${event.replace("_", " ")} sign=${sign} />
    <span class="what"><span class="name">${first}</span> <span class="quiet">epoch ${epoch}</span></span>
    <span class="why">${why}</span>
  </div>`;
});

const SIGNS = {
  node_started: ["unknown", "▶"], node_stopped: ["unknown", "■"],
  ejected: ["watch", "⏏"], returned: ["well", "↩"], override: ["watch", "⚓"], restore: ["well", "⚓"], expire: ["well", "⚓"],
  held: ["watch", "⛊"], released: ["well", "⛊"], alarm: ["bad", "!"], all_clear: ["well", "✓"], reload: ["unknown", "⟳"],
  reload_failed: ["bad", "⟳"], resolved: ["unknown", "⌕"], unresolved: ["bad", "⌕"], discovered: ["unknown", "⌕"], issued: ["well", "⟳"],
};

function signOf(event, { to = "" }) {
  if (event === "transition") {
    if (to.startsWith("down")) return { level: "bad", sign: "✕" };
    return to === "up" ? { level: "well", sign: "✓" } : { level: "watch", sign: "▲" };
  }
  const [level, sign] = SIGNS[event] ?? ["unknown", "·"];
  return { level, sign };
}
