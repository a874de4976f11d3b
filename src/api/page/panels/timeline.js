// The states of regions over time, as bars, or of backends where there are no regions: told by the transitions among the events.

import { html, memo, useMemo, useRef, useSize } from "../lib.js";
import { clock } from "../words.js";

// Bars that are shown: of what changed last.
const MOST_BARS = 6;
const BAR = { height: 14, gap: 6 };

// Letters of a label that are shown, and the width of one.
const LABEL = { letters: 20, letter: 6.8 };

export const Timeline = memo(({ events, status, at, window }) => {
  const frame = useRef(null);
  const { width } = useSize(frame);
  const histories = useMemo(() => statesOf(events, subjects(status)), [events, status]);
  const begin = at - window * 1000;
  const shown = histories.slice(0, MOST_BARS).map((it) => ({ ...it, label: shortened(it.label) }));
  const left = Math.max(0, ...shown.map(({ label }) => label.length)) * LABEL.letter + 10;
  const room = Math.max(0, width - left - 8);
  const x = (time) => left + (Math.max(0, time - begin) / (window * 1000)) * room;
  const height = Math.max(1, shown.length) * (BAR.height + BAR.gap) + 18;
  return html`<div class="timeline" ref=${frame}>
    <svg width="100%" height=${height} role="img" aria-label="States over time; the list of events has the same">
      ${shown.map(({ subject, label, spans }, row) => html`<g key=${subject} transform="translate(0 ${row * (BAR.height + BAR.gap)})">
        <text x="0" y="11">${label}</text>
        ${spans.filter(({ end }) => (end ?? at) > begin).map(({ start, end, state }) => html`<rect class="span ${state}"
          x=${x(start ?? begin)} width=${Math.max(1.5, x(end ?? at) - x(start ?? begin))} height=${BAR.height} />`)}
      </g>`)}
      ${ticks(begin, at, room).map((time) => html`<g class="tick" transform="translate(${x(time)} 0)">
        <path d="M0 0V${height - 16}" /><text y=${height - 4} text-anchor="middle">${clock(time, at).slice(-9, -4)}</text></g>`)}
    </svg>
  </div>`;
});

const shortened = (label) => (label.length > LABEL.letters ? `${label.slice(0, LABEL.letters - 1)}…` : label);

// What has a bar, by the names that events have for it.
function subjects({ regions, pools }) {
  if (regions.length > 0) return regions.map(({ name, verdict }) => ({ subject: `region/${name}`, label: name, verdict }));
  return pools.flatMap((pool) => pool.backends.map(({ name, verdict }) => ({ subject: `pool/${pool.name}/${name}`, label: name, verdict })));
}

// The states of each subject, oldest first; the first begins before all that is known. What changed last comes first.
function statesOf(events, subjects) {
  const histories = new Map(subjects.map((it) => [it.subject, { ...it, spans: [], changed: 0 }]));
  for (const { event, at, fields } of events) {
    const history = event === "transition" && histories.get(fields.subject);
    if (!history) continue;
    const time = Date.parse(at);
    const last = history.spans.at(-1) ?? { start: null, state: stateIn(fields.from) };
    if (history.spans.length === 0) history.spans.push(last);
    last.end = time;
    history.spans.push({ start: time, end: null, state: stateIn(fields.to) });
    history.changed = time;
  }
  for (const history of histories.values()) {
    if (history.spans.length === 0) history.spans.push({ start: null, end: null, state: history.verdict });
  }
  return [...histories.values()].sort((a, b) => b.changed - a.changed);
}

// "down (hard)" and "down (soft)" are down.
const stateIn = (text) => text.split(/\W/)[0];

const STEPS = [60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600].map((seconds) => seconds * 1000);

// Round moments, at least 64 pixels apart.
function ticks(begin, end, room) {
  const step = STEPS.find((it) => (it / (end - begin)) * room >= 64);
  if (!step || room <= 0) return [];
  const first = Math.ceil(begin / step) * step;
  return Array.from({ length: Math.floor((end - first) / step) + 1 }, (_, at) => first + at * step);
}
