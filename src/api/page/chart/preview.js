// The map as it would be with a change that is looked at, and whom that moves.

import { count, list, overrideState, percent, shortName } from "../words.js";
import { sharesOfRegions } from "./flows.js";

// A country moves if at least this share of its clients does.
const LEAST_MOVED = 0.005;

// Regions whose shares are said.
const MOST_SAID = 4;

const NOBODY = new Map();

// `{ map, moving, before }`: the map to show; where the clients of the countries that would move go now, by country; and the map as it is,
// if another one is shown.
export function previewed(map, preview) {
  const after = isOpen(map, preview) ? preview.plan.map : null;
  if (after?.service !== map?.service || !map?.countries) return { map, moving: NOBODY, before: null };
  const now = new Map(map.countries.map(({ country, regions }) => [country, regions]));
  const moving = new Map(after.countries.flatMap(({ country, regions }) => {
    const from = now.get(country);
    return from && moved(from, regions) >= LEAST_MOVED ? [[country, from]] : [];
  }));
  return moving.size === 0 ? { map, moving: NOBODY, before: null } : { map: after, moving, before: map };
}

// Until the map has the change.
const isOpen = (map, preview) => preview && !(preview.madeIn !== null && map?.epoch >= preview.madeIn);

// The share of clients that go elsewhere.
export function moved(from, to) {
  const before = new Map(from.map(({ region, share }) => [region, share]));
  const gains = to.reduce((sum, { region, share }) => sum + Math.max(0, share - (before.get(region) ?? 0)), 0);
  const all = (regions) => regions.reduce((sum, { share }) => sum + share, 0);
  return gains + Math.max(0, all(from) - all(to));
}

// What the preview shows, in a sentence, and the shares of the regions that change: `{ headline, shares }`. `mark` says how the countries
// that would move are marked.
export function described(map, preview, { moving, before, map: after }, mark) {
  // Another service may have been chosen since the plan was made.
  if (!map || !isOpen(map, preview) || preview.plan.map?.service !== map.service) return null;
  const what = changeText(preview);
  if (before) {
    const share = after.countries.reduce((sum, { country, weight, regions }) =>
      sum + (moving.has(country) ? weight * moved(moving.get(country), regions) : 0), 0);
    return {
      headline: `With ${what}, ${percent(share)} of all clients would move (${mark}).`,
      shares: `${count(moving.size, "country", "countries")}; ${changes(before, after)}.`,
    };
  }
  const moves = [...new Set(preview.plan.services.map(({ service }) => service))];
  const others = moves.filter((service) => service !== map.service).map(shortName);
  if (others.length === 0) {
    // Clients may move that get other answers than those that the map is of.
    const where = moves.length > 0 ? `, as far as they ask for ${map.family ? `${map.family} addresses` : "this"}` : "";
    return { headline: `With ${what}, no clients would move to another region${where}.`, shares: "" };
  }
  const named = others.length > 2 ? [others[0], count(others.length - 1, "other service")] : others;
  return { headline: `With ${what}, clients of ${list(named)} would move, but none of ${shortName(map.service)}.`, shares: "" };
}

const changeText = ({ target, action, share }) =>
  `${target} ${action === "restore" ? "restored" : overrideState({ action, share })}`;

// "us-east from 35% to 66%", for the regions that change the most.
function changes(before, after) {
  const [now, then] = [sharesOfRegions(before), sharesOfRegions(after)];
  const names = [...new Set([...now.keys(), ...then.keys()])];
  const difference = (name) => Math.abs((then.get(name) ?? 0) - (now.get(name) ?? 0));
  const sorted = names.filter((name) => difference(name) > 0).sort((a, b) => difference(b) - difference(a));
  return sorted.slice(0, MOST_SAID).map((name) => `${name} from ${percent(now.get(name) ?? 0)} to ${percent(then.get(name) ?? 0)}`).join(", ");
}
