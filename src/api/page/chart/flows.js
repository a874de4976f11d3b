// What the map of a service means for each country and each region.

import { CENTRES } from "./world.js";
import { project } from "./projection.js";

// Lines that are drawn: those of the largest flows.
const MOST_LINES = 90;

// Flows that are drawn are at least this share of all clients.
const LEAST_FLOW = 0.0015;

// The thinnest and the thickest line, in pixels, and the pixels for all clients of the world.
const WIDTHS = { least: 0.8, most: 11, all: 40 };

// The share of all clients that each region gets, by its name.
export function sharesOfRegions(map) {
  const shares = new Map();
  for (const { weight, regions } of map?.countries ?? []) {
    for (const { region, share } of regions) shares.set(region, (shares.get(region) ?? 0) + weight * share);
  }
  return shares;
}

// The share of all clients that get no answer.
export function unservedShare(map) {
  return (map?.countries ?? []).reduce((sum, { weight, regions }) => sum + (regions.length === 0 ? weight : 0), 0);
}

// The regions that have a place, with it.
export function placed(map) {
  const found = (map?.regions ?? []).filter(({ lat, lon }) => Number.isFinite(lat) && Number.isFinite(lon));
  return found.map((region) => ({ ...region, ...project(region.lat, region.lon) }));
}

// A line for each flow from a country to a region. The key of a line stays when its clients are sent elsewhere, so that the
// line swings there.
export function lines(map) {
  const places = new Map(placed(map).map((region) => [region.name, region]));
  const found = (map?.countries ?? []).flatMap(({ country, weight, regions }) => {
    const centre = CENTRES[country];
    if (!centre) return [];
    const from = project(...centre);
    const sorted = [...regions].sort((a, b) => b.share - a.share);
    return sorted.flatMap(({ region, share }, rank) => {
      const to = places.get(region);
      const flow = weight * share;
      return to && flow >= LEAST_FLOW ? [{ key: `${country}/${rank}`, country, region, flow, d: course(from, to) }] : [];
    });
  });
  const largest = found.sort((a, b) => b.flow - a.flow).slice(0, MOST_LINES);
  return largest.map((line) => ({ ...line, width: thickness(line.flow) }));
}

const thickness = (flow) => Math.min(WIDTHS.most, Math.max(WIDTHS.least, flow * WIDTHS.all));

// A line that bends towards the nearer pole, as the shortest way does on such a chart.
export function course(from, to) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const equator = project(0, 0).y;
  const bend = Math.hypot(dx, dy) * 0.16 * ((from.y + to.y) / 2 < equator ? -1 : 1);
  const number = (value) => value.toFixed(0);
  const middle = `${number((from.x + to.x) / 2)} ${number((from.y + to.y) / 2 + bend)}`;
  return `M${number(from.x)} ${number(from.y)}Q${middle} ${number(to.x)} ${number(to.y)}`;
}
