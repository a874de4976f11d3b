// The chart: countries tinted by the regions that their clients are sent to, and lines from the ones to the others.

import { classes, html, memo, useMemo, useRef, useSize, useState } from "../lib.js";
import { Fills, Pattern, Unserved, colourOf } from "../palette.js";
import { count, countryName, percent, regionsText } from "../words.js";
import { Frame, Sea } from "./sea.js";
import { course, lines, placed } from "./flows.js";
import { HEIGHT, WIDTH, project } from "./projection.js";
import { CENTRES, SHAPES } from "./world.js";

// `moving` is where the clients of countries go that the map, a preview, sends elsewhere; without such countries, the map is of what is.
// `down` are the names of the regions that are down; `explained` is the client and the region of the explanation that is shown;
// `onCountry` gets a row of the map.
export function Chart({ map, moving, indices, down, explained, onCountry }) {
  const frame = useRef(null);
  const { width } = useSize(frame);
  // Units of the chart for a pixel of the screen: what must not shrink with the chart is scaled by it.
  const unit = width > 0 ? WIDTH / width : 1;
  const [pointed, setPointed] = useState(null);
  const byCountry = useMemo(() => new Map((map?.countries ?? []).map((row) => [row.country, row])), [map]);
  const rowAt = (event) => byCountry.get(event.target.closest?.("[data-country]")?.dataset.country);
  const point = (event) => {
    const row = rowAt(event);
    const { left, top } = frame.current.getBoundingClientRect();
    setPointed(row ? { row, x: event.clientX - left, y: event.clientY - top } : null);
  };
  const isPreview = moving.size > 0;
  return html`<figure class=${classes("chart", isPreview && "previewing")} ref=${frame} style=${{ "--unit": unit }}
      onPointerMove=${point} onPointerLeave=${() => setPointed(null)}
      onClick=${(event) => rowAt(event) && onCountry?.(rowAt(event))}>
    <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label=${described(map, moving)}>
      <${Sea} />
      <${Countries} countries=${map?.countries} moving=${moving} indices=${indices} scale=${unit} />
      <${Lines} map=${map} moving=${moving} indices=${indices} only=${pointed?.row.country} />
      ${explained && html`<${Explained} ...${explained} map=${map} indices=${indices} unit=${unit} />`}
      <${Regions} map=${map} indices=${indices} down=${down} unit=${unit} />
      <${Frame} />
    </svg>
    ${pointed && html`<${Tip} ...${pointed} before=${moving.get(pointed.row.country)} canExplain=${onCountry !== null} width=${width} />`}
  </figure>`;
}

function described(map, moving) {
  if (!map?.countries) return "A map of the world";
  if (moving.size > 0) return `A map of the world with the change: the clients of ${count(moving.size, "country", "countries")} would move. The table has the same.`;
  const served = map.countries.filter(({ regions }) => regions.length > 0).length;
  return `A map of the world: the clients of ${served} countries are sent to ${map.regions.length} regions. The table has the same.`;
}

const OUTLINES = Object.entries(SHAPES);

// Countries that the map has no outline for, such as Singapore: dots.
const DOTS = Object.entries(CENTRES).filter(([code]) => !(code in SHAPES) && code !== "AQ");

const Countries = memo(({ countries, moving, indices, scale }) => {
  const { fills, patterns } = useMemo(() => fill(countries, indices), [countries, indices]);
  return html`<g>
    <defs>
      <${Unserved} id="tint-none" scale=${scale} />
      ${[...patterns].map(([id, parts]) => html`<${Pattern} key=${id} id=${id} parts=${parts} scale=${scale} />`)}
      <g id="land">${OUTLINES.map(([, d]) => html`<path d=${d} />`)}</g>
    </defs>
    <use href="#land" class="shallows" />
    <use href="#land" class="coast" />
    <g class="countries">
      ${OUTLINES.map(([code, d]) => html`<${Country} key=${code} code=${code} d=${d} fill=${fills.get(code)} />`)}
      ${DOTS.map(([code, centre]) => fills.has(code) && html`<${Dot} key=${code} code=${code} centre=${centre} fill=${fills.get(code)} />`)}
    </g>
    ${moving.size > 0 && html`<${Moving} moving=${moving} fills=${fills} />`}
  </g>`;
});

// The countries that would move, once more above the others, with one outline around all that are next to each other.
function Moving({ moving, fills }) {
  const shapes = OUTLINES.filter(([code]) => moving.has(code));
  const dots = DOTS.filter(([code]) => moving.has(code));
  return html`<g class="moving">
    ${shapes.map(([code, d]) => html`<path key=${`around ${code}`} class="around" d=${d} />`)}
    ${shapes.map(([code, d]) => html`<${Country} key=${code} code=${code} d=${d} fill=${fills.get(code)} />`)}
    ${dots.map(([code, centre]) => html`<${Dot} key=${code} code=${code} centre=${centre} fill=${fills.get(code)} />`)}
  </g>`;
}

function fill(countries = [], indices) {
  const shared = new Fills("tint");
  const shares = (regions) => regions.filter(({ region }) => indices.has(region))
    .map(({ region, share }) => [indices.get(region), share]);
  const fills = new Map(countries.map(({ country, regions }) => [country, shared.of(shares(regions))]));
  return { fills, patterns: shared.patterns };
}

const Country = memo(({ code, d, fill }) => html`<path class="country" d=${d} fill=${fill} data-country=${code} />`);

const Dot = memo(({ code, centre, fill }) => {
  const { x, y } = project(...centre);
  return html`<circle class="country dot" cx=${x} cy=${y} fill=${fill} data-country=${code} />`;
});

const Lines = memo(({ map, moving, indices, only }) => {
  const drawn = useMemo(() => lines(map), [map]);
  return html`<g class=${only ? "lines some" : "lines"} aria-hidden="true">
    ${drawn.map(({ key, country, region, d, width }) => html`<path key=${key} d=${d} class=${classes(country === only && "pointed", moving.has(country) && "moves")}
      stroke=${colourOf(indices.get(region))} style=${{ "--width": `${width}px` }} />`)}
  </g>`;
});

// What is down has a cross; where operators send no clients, or would with a preview, there is a bar.
const Regions = memo(({ map, indices, down, unit }) => {
  const regions = useMemo(() => labelled(placed(map), unit), [map, unit]);
  return html`<g class="regions" aria-hidden="true">
    ${regions.map(({ name, x, y, available, label }) => html`<g key=${name} class=${classes("region", !available && "away", !available && down.has(name) && "down")}
        data-region=${name} transform="translate(${x} ${y}) scale(${unit})">
      <circle r="6.5" fill=${colourOf(indices.get(name))} />
      ${available ? html`<circle r="2" class="eye" />` : html`<path d=${down.has(name) ? "M-3.2 -3.2L3.2 3.2M3.2 -3.2L-3.2 3.2" : "M-3.5 0H3.5"} />`}
      ${label && html`<text x=${label.x} y=${label.y} text-anchor=${label.anchor}>${name}</text>`}
    </g>`)}
  </g>`;
});

// Places for a label beside its region, best first; a label that has none is left out, for the legend has it.
const PLACES = [
  { x: 11, y: 4, anchor: "start" }, { x: -11, y: 4, anchor: "end" },
  { x: 0, y: -12, anchor: "middle" }, { x: 0, y: 20, anchor: "middle" },
];
const LETTER = { width: 7.6, height: 16 };

function labelled(regions, unit) {
  const dots = regions.map(({ x, y }) => ({ left: x / unit - 8, right: x / unit + 8, top: y / unit - 8, bottom: y / unit + 8 }));
  const taken = [...dots];
  return regions.map((region, at) => {
    const boxes = PLACES.map((place) => ({ place, box: boxOf(place, region, unit) }));
    const free = boxes.find(({ box }) => box.left > 0 && box.right < WIDTH / unit
      && !taken.some((other) => other !== dots[at] && overlap(box, other)));
    if (free) taken.push(free.box);
    return { ...region, label: free?.place };
  });
}

function boxOf({ x, y, anchor }, region, unit) {
  const width = region.name.length * LETTER.width;
  const start = region.x / unit + x - { start: 0, middle: width / 2, end: width }[anchor];
  const bottom = region.y / unit + y + 4;
  return { left: start, right: start + width, top: bottom - LETTER.height, bottom };
}

const overlap = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;

// The client that is explained, and the course to its region.
function Explained({ lat, lon, region, map, indices, unit }) {
  const from = project(lat, lon);
  const to = placed(map).find(({ name }) => name === region);
  return html`<g class="explained" aria-hidden="true">
    ${to && html`<path class="course" d=${course(from, to)} stroke=${colourOf(indices.get(region))} />`}
    <g transform="translate(${from.x} ${from.y}) scale(${unit})"><path class="cross" d="M-7 0H7M0 -7V7" /><circle r="5" /></g>
  </g>`;
}

// `before` is where the clients go if they would move.
function Tip({ row, before, canExplain, x, y, width }) {
  const isRight = x > width / 2;
  const style = { left: isRight ? "auto" : `${x + 14}px`, right: isRight ? `${width - x + 14}px` : "auto", top: `${y + 14}px` };
  return html`<figcaption class="tip" style=${style}>
    <strong>${countryName(row.country)}</strong> <span class="quiet">${percent(row.weight)} of clients</span>
    ${before && html`<div class="quiet"><del>${regionsText(before)}</del></div>`}
    ${row.regions.length === 0 && html`<div>no answer</div>`}
    ${row.regions.map(({ region, share }) => html`<div>${before && "→ "}${region} ${share < 1 && percent(share)}</div>`)}
    ${row.client && canExplain && html`<div class="quiet">click to explain ${row.client}</div>`}
  </figcaption>`;
}
