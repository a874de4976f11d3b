// What lies under the map: rhumb lines, a compass rose, and the scales along the edges.

import { html, memo } from "../lib.js";
import { HEIGHT, WIDTH, meridianAt, project } from "./projection.js";

const WINDS = 32;

// How wide the scales are.
const EDGE = 44;

// Where rhumb lines meet, at sea: latitude and longitude.
const CENTRES = [[-30, -112], [24, -42], [-32, 76], [18, 152]];

// The compass rose stands on the first of them.
const ROSE = { ...project(...CENTRES[0]), radius: 46, size: 10 };

const bearing = (wind, length) => {
  const angle = (wind * 2 * Math.PI) / WINDS;
  return [length * Math.sin(angle), -length * Math.cos(angle)];
};

const point = ([x, y], at = { x: 0, y: 0 }) => `${(at.x + x).toFixed(1)} ${(at.y + y).toFixed(1)}`;

// Every fourth of the winds is a principal one, every second between them a half wind; the rest are quarter winds.
const rankOf = (wind) => (wind % 4 === 0 ? "principal" : wind % 2 === 0 ? "half" : "quarter");

function rhumbs(rank) {
  const winds = Array.from({ length: WINDS }, (_, wind) => wind).filter((wind) => rankOf(wind) === rank);
  return CENTRES.flatMap((centre) => {
    const at = project(...centre);
    return winds.map((wind) => `M${point([0, 0], at)}L${point(bearing(wind, 2 * WIDTH), at)}`);
  }).join("");
}

// A ray of the rose: its left half is filled, its right half outlined.
function ray(wind, length, waist) {
  const [tip, left, right] = [bearing(wind, length), bearing(wind - 2, waist), bearing(wind + 2, waist)];
  return { left: `M0 0L${point(left)}L${point(tip)}Z`, right: `M0 0L${point(right)}L${point(tip)}Z` };
}

const RAYS = [
  ...[2, 6, 10, 14, 18, 22, 26, 30].map((wind) => ray(wind, 20, 7)),
  ...[4, 12, 20, 28].map((wind) => ray(wind, 30, 9)),
  ...[0, 8, 16, 24].map((wind) => ray(wind, 42, 10)),
];

function Rose() {
  return html`<g class="rose" transform="translate(${ROSE.x} ${ROSE.y}) scale(${ROSE.size})">
    <circle r=${ROSE.radius} class="rose-disc" />
    <circle r=${ROSE.radius} class="rose-ring" /><circle r=${ROSE.radius - 3} class="rose-ring" />
    ${RAYS.map(({ left, right }) => html`<path d=${left} class="rose-dark" /><path d=${right} class="rose-light" />`)}
    <path class="rose-north" d="M0 -62C3 -57 7 -56 7 -52C7 -49 3 -49 2 -51L2 -47L-2 -47L-2 -51C-3 -49 -7 -49 -7 -52C-7 -56 -3 -57 0 -62Z" />
  </g>`;
}

// Alternating bars of ten degrees, as charts have them at their edges.
function Scale() {
  const meridians = [];
  for (let lon = -180; lon < 200; lon += 20) {
    const x = project(0, lon).x;
    if (meridianAt(x) < 191 && x >= 0 && x < WIDTH) meridians.push(x);
  }
  const width = WIDTH / 36;
  const parallels = [-50, -30, -10, 10, 30, 50, 70].map((lat) => [project(lat + 10, 0).y, project(lat, 0).y]);
  return html`<g class="scale">
    ${meridians.flatMap((x) => [0, HEIGHT - EDGE].map((y) => html`<rect x=${x} y=${y} width=${width} height=${EDGE} />`))}
    ${parallels.flatMap(([top, bottom]) => [0, WIDTH - EDGE].map((x) => html`
      <rect x=${x} y=${top} width=${EDGE} height=${bottom - top} />`))}
    <rect class="neatline" x=${EDGE} y=${EDGE} width=${WIDTH - 2 * EDGE} height=${HEIGHT - 2 * EDGE} />
    <rect class="neatline" x="5" y="5" width=${WIDTH - 10} height=${HEIGHT - 10} />
  </g>`;
}

export const Sea = memo(() => html`<g aria-hidden="true">
  <rect class="sea" width=${WIDTH} height=${HEIGHT} />
  ${["quarter", "half", "principal"].map((rank) => html`<path class="rhumb ${rank}" d=${rhumbs(rank)} />`)}
  <${Rose} />
</g>`);

export const Frame = memo(() => html`<g aria-hidden="true"><${Scale} /></g>`);
