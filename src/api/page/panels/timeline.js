// The states of regions over time, as bars, or of backends where there are no regions, with the overrides of operators above them.

import { html, memo, useMemo, useRef, useSize } from "../lib.js";
import { clock, overrideState } from "../words.js";
import { histories, told } from "./history.js";

// Bars that are shown: of what changed last.
const MOST_BARS = 6;
const BAR = { height: 14, gap: 6 };

// Letters of a label that are shown, and the width of one.
const LABEL = { letters: 20, letter: 6.8 };

// What an override leaves in view of the bar below it, which tells what probes found: at least, and beyond that what a drain leaves.
const LEAST_VERDICT = 4;

export const Timeline = memo(({ events, status, at, window }) => {
  const frame = useRef(null);
  const { width } = useSize(frame);
  const all = useMemo(() => histories(events, status, at), [events, status]);
  const begin = at - window * 1000;
  const shown = all.slice(0, MOST_BARS);
  const left = Math.max(0, ...shown.map(({ label }) => shortened(label).length)) * LABEL.letter + 10;
  const room = Math.max(0, width - left - 8);
  const x = (time) => left + Math.min(1, Math.max(0, time - begin) / (window * 1000)) * room;
  const placed = (spans) => spans.filter(({ start, end }) => end > begin && start < at)
    .map((span) => ({ ...span, x: x(span.start), width: Math.max(1.5, x(span.end) - x(span.start)) }));
  const height = Math.max(1, shown.length) * (BAR.height + BAR.gap) + 18;
  return html`<div class="timeline" ref=${frame}>
    <ul class="visually-hidden" aria-label="States over time">${shown.map((it) => html`<li key=${it.subject}>${told(it, begin, at)}</li>`)}</ul>
    <svg width="100%" height=${height} aria-hidden="true">
      <${Hatchings} />
      ${shown.map(({ subject, label, states, overrides }, row) => html`<g key=${subject} data-subject=${subject} transform="translate(0 ${row * (BAR.height + BAR.gap)})">
        <text x="0" y="11">${shortened(label)}</text>
        <rect class="span unknown" x=${left} width=${room} height=${BAR.height} />
        ${placed(states).map((it) => html`<rect class="span ${it.state}" x=${it.x} width=${it.width} height=${BAR.height} />`)}
        ${placed(overrides).map((it) => html`<${Overridden} ...${it} at=${at} />`)}
      </g>`)}
      ${ticks(begin, at, room).map((time) => html`<g class="tick" transform="translate(${x(time)} 0)">
        <path d="M0 0V${height - 16}" /><text y=${height - 4} text-anchor="middle">${clock(time, at).slice(-9, -4)}</text></g>`)}
    </svg>
    <${Legend} />
  </div>`;
});

function Overridden({ action, share, by, start, end, x, width, at }) {
  const drained = action === "drain" ? Number.parseFloat(share) / 100 : 1;
  const height = Math.max(LEAST_VERDICT, Math.round(drained * (BAR.height - LEAST_VERDICT)));
  const when = `${Number.isFinite(start) ? `from ${clock(start, at)} ` : ""}${end > at ? "on" : `until ${clock(end, at)}`}`;
  return html`<rect class="overridden ${action}" fill="url(#overridden-${action})" x=${x} width=${width} height=${height}>
    <title>${[overrideState({ action, share }), by && `by ${by}`, when].filter(Boolean).join(" ")}</title></rect>`;
}

// What distinguishes overrides in a square of 6 by 6, besides their colours.
const HATCHINGS = { drain: "M-1 7L7 -1M-1 1L1 -1M5 7L7 5", down: "M0 0L6 6M6 0L0 6", up: "M3 0v6" };

const Hatchings = memo(() => html`<defs>${Object.entries(HATCHINGS).map(([action, d]) => html`<pattern
  id="overridden-${action}" class="overriding ${action}" width="6" height="6" patternUnits="userSpaceOnUse">
    <rect width="6" height="6" /><path d=${d} /></pattern>`)}</defs>`);

const STATES = { up: "up", degraded: "degraded", down: "down" };
const OVERRIDES = { drain: "drained", up: "forced up", down: "forced down" };

// Overrides as they are above a bar of what is up.
const Legend = memo(() => {
  const sample = (shape) => html`<svg width="18" height=${BAR.height} aria-hidden="true">${shape}</svg>`;
  const bar = (state) => html`<rect class="span ${state}" width="18" height=${BAR.height} />`;
  return html`<ul class="bars-legend" aria-label="What the bars mean">
    ${Object.entries(STATES).map(([state, word]) => html`<li>${sample(bar(state))} ${word}</li>`)}
    ${Object.entries(OVERRIDES).map(([action, word]) => html`<li>${sample(html`${bar("up")}
      <rect class="overridden ${action}" fill="url(#overridden-${action})" width="18" height=${BAR.height - LEAST_VERDICT} />`)} ${word}</li>`)}
    <li>${sample(bar("unknown"))} not known</li>
  </ul>`;
});

const shortened = (label) => (label.length > LABEL.letters ? `${label.slice(0, LABEL.letters - 1)}…` : label);

const STEPS = [60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600].map((seconds) => seconds * 1000);

// Round moments, at least 64 pixels apart.
function ticks(begin, end, room) {
  const step = STEPS.find((it) => (it / (end - begin)) * room >= 64);
  if (!step || room <= 0) return [];
  const first = Math.ceil(begin / step) * step;
  return Array.from({ length: Math.floor((end - first) / step) + 1 }, (_, at) => first + at * step);
}
