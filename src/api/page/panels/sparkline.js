// Round-trip times since the page was opened, as a small line; probes that failed are marked below it.

import { html, memo } from "../lib.js";
import { trails } from "../trails.js";

const [WIDTH, HEIGHT] = [84, 24];

// Samples shown: 5 minutes, usually.
const SAMPLES = 60;

// `at` is when the last sample was taken: there is a new one when it changes.
export const Sparkline = memo(({ trail, at }) => {
  const { rtt, failures } = trails.of(trail);
  const [shown, failed] = [rtt.slice(-SAMPLES), failures.slice(-SAMPLES)];
  const known = shown.filter((value) => !Number.isNaN(value));
  const [least, most] = [Math.min(...known), Math.max(...known)];
  const x = (place) => WIDTH - 2 - ((shown.length - 1 - place) * (WIDTH - 4)) / (SAMPLES - 1);
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
