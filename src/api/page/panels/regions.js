// Regions, their endpoints, and the addresses of those.

import { html, useMemo } from "../lib.js";
import { began, evidence, foundOf, regionLevel, regionState } from "../health.js";
import { useStore } from "../store.js";
import { count } from "../words.js";
import { Tree, addressNode, ownerEvidence, ownerLevel } from "./tree.js";

export function Regions({ onAct, onDetail }) {
  const regions = useStore((state) => state.status?.regions);
  const at = useStore((state) => state.at);
  const roots = useMemo(() => (regions ?? []).map(regionNode), [regions]);
  return html`<${Tree} roots=${roots} label="regions" at=${at} onAct=${onAct} onDetail=${onDetail}
    empty="This node has no regions." />`;
}

function regionNode(region) {
  const { name, endpoints, override, capacity } = region;
  return {
    key: name, depth: 0, name, search: name.toLowerCase(), level: regionLevel(region), word: foundOf(region), since: began(region),
    state: regionState(region), evidence: evidence(endpoints), override, target: `region/${name}`,
    note: capacity ? `${capacity.toLocaleString("en")} req/s` : null,
    children: () => endpoints.map((endpoint) => endpointNode(name, endpoint)),
  };
}

// An endpoint with one address is one row.
function endpointNode(region, endpoint) {
  const { name, host, addresses, override } = endpoint;
  const target = `endpoint/${region}/${name}`;
  const search = `${region}/${name} ${host ?? ""}`.toLowerCase();
  if (addresses.length === 1) {
    const only = addressNode("region", region, name, addresses[0], 1);
    return { ...only, name: `${name} ${addresses[0].address}`, search: `${search} ${only.search}`, override, target,
      level: ownerLevel({ ...addresses[0], override }) };
  }
  return {
    key: target, depth: 1, name: host ? `${name} ${host}` : name, search, level: ownerLevel(endpoint), word: foundOf(endpoint),
    state: foundOf(endpoint), evidence: ownerEvidence(endpoint), override, target, note: count(addresses.length, "address", "addresses"),
    children: () => addresses.map((address) => addressNode("region", region, name, address, 2)),
  };
}
