// The colour and the hatching of each region: both, since colours alone do not tell regions apart for everyone.

import { html, useId } from "./lib.js";

// As many as style/theme.css has of `--region-N`.
const COLOURS = 8;

// How the hatching of a region is drawn in a square of 8 by 8; the first has none.
const HATCHINGS = [
  null,
  "M-2 10L10 -2M-2 2L2 -2M6 10L10 6",
  "M2 2h.01M6 6h.01",
  "M-2 -2L10 10M6 -2L10 2M-2 6L2 10",
  "M0 4h8",
  "M4 0v8",
  "M0 4h8M4 0v8",
  "M-2 10L10 -2M-2 -2L10 10",
];

// Beyond eight regions, colours come again with other hatchings.
export function look(index) {
  const round = Math.floor(index / COLOURS);
  return {
    colour: `var(--region-${index % COLOURS})`,
    hatching: HATCHINGS[(index + round) % HATCHINGS.length],
    strength: round === 0 ? "40%" : "26%",
  };
}

export const colourOf = (index) => (index === undefined ? "var(--ink-2)" : look(index).colour);

// The number of each region, by which it gets its look.
export const indices = (regions) => new Map(regions.map(({ name }, index) => [name, index]));

// The fill of a country whose clients are sent to these regions: `shares` is a list of [index, share].
export class Fills {
  // The patterns that are needed, by id.
  patterns = new Map();

  constructor(prefix) {
    this.prefix = prefix;
  }

  of(shares) {
    const parts = tenths(shares);
    if (parts.length === 0) return `url(#${this.prefix}-none)`;
    const id = `${this.prefix}-${parts.map(([index, width]) => (parts.length > 1 ? `${index}x${width}` : index)).join("-")}`;
    if (!this.patterns.has(id)) this.patterns.set(id, parts);
    return `url(#${id})`;
  }
}

// Shares in tenths, the largest first; what is less than half a tenth is left out.
function tenths(shares) {
  const sorted = [...shares].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
  const large = sorted.filter(([, share], at) => at === 0 || share >= 0.05).slice(0, 4);
  return large.map(([index, share]) => [index, Math.max(1, Math.round(share * 10))]);
}

// The definition of a pattern: one region fills it; several alternate in stripes as wide as their shares.
export function Pattern({ id, parts, scale }) {
  const transform = `scale(${scale})${parts.length > 1 ? " rotate(45)" : ""}`;
  const size = parts.length > 1 ? parts.reduce((sum, [, width]) => sum + width, 0) : 8;
  let x = 0;
  return html`<pattern id=${id} width=${size} height="8" patternUnits="userSpaceOnUse" patternTransform=${transform}>
    ${parts.map(([index, width]) => {
      const { colour, strength } = look(index);
      const stripe = html`<rect x=${x} width=${parts.length > 1 ? width : size} height="8" class="tint"
        style=${{ "--colour": colour, "--strength": strength }} />`;
      x += width;
      return stripe;
    })}
    ${parts.length === 1 && html`<${Hatching} ...${look(parts[0][0])} />`}
  </pattern>`;
}

const Hatching = ({ hatching, colour }) => hatching && html`<path d=${hatching} class="hatching" style=${{ "--colour": colour }} />`;

// The clients that nothing is answered to.
export const Unserved = ({ id, scale }) => html`<pattern
    id=${id} class="unserved" width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="scale(${scale})">
  <rect width="8" height="8" /><path d=${HATCHINGS[7]} class="hatching" />
</pattern>`;

// A small square with the look of a region.
export function Swatch({ index }) {
  const id = useId();
  return html`<svg class="swatch" width="14" height="14" aria-hidden="true">
    <defs><${Pattern} id=${id} parts=${[[index, 1]]} scale=${0.75} /></defs>
    <rect x=".5" y=".5" width="13" height="13" rx="2" fill="url(#${id})" stroke=${colourOf(index)} />
  </svg>`;
}
