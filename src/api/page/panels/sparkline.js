// What happened since the page was opened, as a small line: round-trip times, and requests with those that failed.

import { html, memo } from "../lib.js";
import { trails } from "../trails.js";

const [WIDTH, HEIGHT] = [84, 24];

// Samples shown: 5 minutes, usually.
const SAMPLES = 60;

const xOf = (place, length) => WIDTH - 2 - ((length - 1 - place) * (WIDTH - 4)) / (SAMPLES - 1);

// Probes that failed are marked below the line. `at` is when the last sample was taken: there is a new one when it changes.
export const Sparkline = memo(({ trail, at }) => {
  const { rtt, failures } = trails.of(trail);
  const [shown, failed] = [rtt.slice(-SAMPLES), failures.slice(-SAMPLES)];
  const known = shown.filter((value) => !Number.isNaN(value));
  const [least, most] = [Math.min(...known), Math.max(...known)];
  const x = (place) => xOf(place, shown.length);
  // A line that hardly moves must not look as if it did.
  const span = Math.max(most - least, most / 4, 0.05);
  const y = (value) => 16 - ((value - least) / span) * 12;
  let d = "";
  shown.forEach((value, place) => {
    if (Number.isNaN(value)) return;
    const isFirst = place === 0 || Number.isNaN(shown[place - 1]);
    d += `${isFirst ? "M" : "L"}${x(place).toFixed(1)} ${y(value).toFixed(1)}${isFirst ? "h.01" : ""}`;
  });
  const marks = failed.map((count, place) => (count > 0 ? `M${x(place).toFixed(1)} 19v4` : "")).join("");
  return html`<svg class="sparkline" width=${WIDTH} height=${HEIGHT} aria-hidden="true" data-at=${at}>
    <path class="base" d="M2 21H${WIDTH - 2}" />
    ${d && html`<path class="line" d=${d} />`}
    ${marks && html`<path class="failed" d=${marks} />`}
  </svg>`;
});

// Requests per second as an area, and those that failed as a darker one in it; samples with some are marked below it.
export const RequestsSparkline = memo(({ trail, at }) => {
  const { requests, errors } = trails.of(trail);
  const [shown, failed] = [requests.slice(-SAMPLES), errors.slice(-SAMPLES)];
  const x = (place) => xOf(place, shown.length).toFixed(1);
  const most = Math.max(...shown.filter((value) => !Number.isNaN(value)), LEAST_RATE);
  const y = (value) => (FLOOR - Math.min(1, value / most) * 16).toFixed(1);
  const marks = failed.map((rate, place) => (rate > 0 ? `M${x(place)} 21v3` : "")).join("");
  return html`<svg class="sparkline requests" width=${WIDTH} height=${HEIGHT} aria-hidden="true" data-at=${at}>
    <path class="base" d="M2 21H${WIDTH - 2}" />
    <path class="area" d=${area(shown, x, y)} />
    <path class="errors" d=${area(failed, x, y)} />
    ${marks && html`<path class="failed" d=${marks} />`}
  </svg>`;
});

// Where an area ends.
const FLOOR = 20.5;

// A pool that gets hardly any requests must not look busy.
const LEAST_RATE = 1;

// Under the values, but not where they are not known.
function area(values, x, y) {
  let d = "";
  values.forEach((value, place) => {
    if (Number.isNaN(value)) return;
    const isFirst = place === 0 || Number.isNaN(values[place - 1]);
    const isLast = place === values.length - 1 || Number.isNaN(values[place + 1]);
    d += `${isFirst ? `M${x(place)} ${FLOOR}` : ""}L${x(place)} ${y(value)}${isLast ? `V${FLOOR}Z` : ""}`;
  });
  return d;
}
