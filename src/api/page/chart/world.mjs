// Makes world.js: the countries of Natural Earth on a Mercator chart, as SVG paths, and the centres of all countries.
//
//     npm install --no-save world-atlas@2.0.2 topojson-client@3 d3-geo@3 && node src/api/page/chart/world.mjs
//
// Run it at the root of the repository; it writes src/api/page/chart/world.js.

import { readFileSync, writeFileSync } from "node:fs";
import { geoMercator, geoPath } from "d3-geo";
import { feature } from "topojson-client";

// the same numbers as in projection.js.
const MERIDIAN = 11;
const WIDTH = 10_000;
const SCALE = WIDTH / (2 * Math.PI);
const [NORTH, SOUTH] = [74, -56];

const northing = (lat) => SCALE * Math.log(Math.tan(Math.PI / 4 + (lat * Math.PI) / 360));
const HEIGHT = Math.round(northing(NORTH) - northing(SOUTH));

const projection = geoMercator()
  .rotate([-MERIDIAN, 0])
  .scale(SCALE)
  .translate([WIDTH / 2, northing(NORTH)])
  .clipExtent([[0, 0], [WIDTH, HEIGHT]]);
const path = geoPath(projection).digits(0);

// Natural Earth has no ISO number for these; de facto, or as databases of addresses have it.
const WITHOUT_NUMBER = { "N. Cyprus": "CY", Somaliland: "SO", Kosovo: "XK" };

// CLDR knows the two letters that a number of ISO 3166-1 stands for.
const letters = ({ id, properties }) =>
  WITHOUT_NUMBER[properties.name] ?? new Intl.Locale(`und-${id}`).region;

// d3 writes absolute coordinates; relative ones take half the room.
function compact(d) {
  return d.replace(/M[^M]+/g, (ring) => {
    const points = ring.slice(1).replace(/Z$/, "").split("L").map((it) => it.split(",").map(Number));
    const steps = points.slice(1).map(([x, y], at) => [x - points[at][0], y - points[at][1]]);
    const moves = steps.filter(([x, y]) => x !== 0 || y !== 0);
    // An island that is smaller than that is left out.
    if (moves.length < 2) return "";
    const number = (n) => `${n < 0 ? "" : " "}${n}`;
    return `M${points[0]}l${moves.map((step) => step.map(number).join("")).join("").trim()}z`;
  });
}

const atlas = JSON.parse(readFileSync("node_modules/world-atlas/countries-110m.json"));
const shapes = {};
for (const country of feature(atlas, atlas.objects.countries).features) {
  const d = path(country);
  if (d) shapes[letters(country)] = (shapes[letters(country)] ?? "") + compact(d);
}

const rows = readFileSync("src/geo/countries.rs", "utf8").matchAll(/row\(b"(..)", \w\w, (.+), (.+)\)/g);
const centres = Object.fromEntries(Array.from(rows, ([, code, lat, lon]) => [code, [Number(lat), Number(lon)]]));

const lines = (table) => Object.entries(table).sort(([a], [b]) => (a < b ? -1 : 1))
  .map(([code, value]) => `  ${code}: ${JSON.stringify(value)},`).join("\n");
writeFileSync("src/api/page/chart/world.js", `// Made by world.mjs from Natural Earth 1:110m (public domain) as packaged by world-atlas 2.0.2, and src/geo/countries.rs.

// The outlines of countries, where projection.js has them.
export const SHAPES = {
${lines(shapes)}
};

// Latitude and longitude of where most addresses of a country are.
export const CENTRES = {
${lines(centres)}
};
`);
