// A Mercator chart, as navigators have it: a course of constant bearing is a straight line on it.

const MERIDIAN = 11;
// In whole units, the outlines of countries are as fine as they are known.
export const WIDTH = 10_000;
const SCALE = WIDTH / (2 * Math.PI);
const [NORTH, SOUTH] = [74, -56];

const northing = (lat) => SCALE * Math.log(Math.tan(Math.PI / 4 + (lat * Math.PI) / 360));
export const HEIGHT = Math.round(northing(NORTH) - northing(SOUTH));

// Where a place is on the chart. What is beyond its edges is at its edges.
export function project(lat, lon) {
  const turned = ((((lon - MERIDIAN + 180) % 360) + 360) % 360) - 180;
  const within = Math.min(NORTH, Math.max(SOUTH, lat));
  return { x: WIDTH / 2 + (turned * WIDTH) / 360, y: northing(NORTH) - northing(within) };
}

// The reverse, for the scales along its edges.
export const meridianAt = (x) => ((x - WIDTH / 2) * 360) / WIDTH + MERIDIAN;
