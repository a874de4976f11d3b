// Regions with their endpoints and addresses, and pools with their backends: rows of a list that opens and closes.

import { html, useMemo, useState } from "../lib.js";
import { LEVELS, evidence, foundOf, isFine, levelOf } from "../health.js";
import { addressKey, trails } from "../trails.js";
import { milliseconds, overrideOrigin, overrideState, percent, rate, since } from "../words.js";
import { Rows, Sign } from "./rows.js";
import { RequestsSparkline, Sparkline } from "./sparkline.js";

// With more rows at the top level, those without a finding start closed.
const FEW = 8;

// `roots` is a list of nodes: `{ key, depth, name, search, level, word, state, evidence, override?, target?, note?, trails?, children? }`, where
// `children` returns a list of nodes: most of them are never looked at. `trails` are the keys of the backends whose rates it shows.
export function Tree({ roots, label, empty, at, onAct, onDetail }) {
  const [search, setSearch] = useState("");
  const [onlyFindings, setOnlyFindings] = useState(false);
  const [toggled, setToggled] = useState({});
  const isOpen = (node) => toggled[node.key] ?? (roots.length <= FEW || search !== "");
  const rows = useMemo(() => {
    const wanted = search.trim().toLowerCase();
    if (wanted === "" && !onlyFindings) return opened(roots, isOpen);
    const fits = (node) => (!onlyFindings || !isFine(node.level)) && node.search.includes(wanted);
    return fitting(roots, fits, isOpen);
  }, [roots, search, onlyFindings, toggled]);
  return html`<div class="tree">
    <div class="tools">
      <input type="search" placeholder="Search" aria-label="Search ${label}" value=${search}
        onInput=${(event) => setSearch(event.target.value)} />
      <label><input type="checkbox" checked=${onlyFindings} onChange=${(event) => setOnlyFindings(event.target.checked)} />
        only what is not well</label>
    </div>
    <${Rows} items=${rows} label=${label} keyOf=${({ key }) => key} classOf=${({ depth }) => `depth-${depth}`}
      empty=${roots.length === 0 ? empty : "Nothing is like that."}
      render=${(node) => html`<${Row} node=${node} isOpen=${isOpen(node)} at=${at} onAct=${onAct} onDetail=${onDetail}
        onToggle=${() => setToggled({ ...toggled, [node.key]: !isOpen(node) })} />`} />
  </div>`;
}

function opened(nodes, isOpen) {
  return nodes.flatMap((node) => [node, ...(node.children && isOpen(node) ? opened(node.children(), isOpen) : [])]);
}

// The nodes that fit, and those that contain one that does.
function fitting(nodes, fits, isOpen) {
  return nodes.flatMap((node) => {
    const below = node.children ? fitting(node.children(), fits, isOpen) : [];
    if (below.length === 0 && !fits(node)) return [];
    return [node, ...(isOpen(node) ? below : [])];
  });
}

function Row({ node, isOpen, at, onToggle, onAct, onDetail }) {
  const { name, level, word, state, evidence, override, target, children, address, trail } = node;
  return html`
    <button class="main" aria-expanded=${children ? isOpen : undefined} onClick=${children ? onToggle : () => onDetail(node)}>
      <span class="twist" aria-hidden="true">${children ? (isOpen ? "▾" : "▸") : ""}</span>
      <${Sign} level=${level} word=${word} sign=${LEVELS[level].sign} />
      <span class="what"><span class="name">${name}</span> <span class="state ${level}">${state}</span>
        ${node.since && html`<span class="quiet">${since(node.since, at)}</span>`}</span>
      <span class="why">${override ? `${overrideState(override)} ${overrideOrigin(override, at)}` : evidence}</span>
    </button>
    ${address?.load && html`<span class="measure"><${RequestsSparkline} trail=${trail} at=${at} />
      <${Rates} ...${trails.recent([trail])} /></span>`}
    ${address && address.probed !== false && html`<span class="measure"><${Sparkline} trail=${trail} at=${at} /><span class="quiet">${milliseconds(address.rtt_ms)}</span></span>`}
    ${node.note && html`<span class="measure quiet">${node.note}${node.trails && html` <${Rates} ...${trails.recent(node.trails)} />`}</span>`}
    ${target && html`<button class="small act" onClick=${() => onAct({ target, override, verdict: word })}>
      Act<span class="visually-hidden"> on ${target}</span></button>`}`;
}

// Requests per second, and which share of them failed.
const Rates = ({ requests, failed }) => html`<span class="quiet">${rate(requests)}${failed > 0
  && html` <span class="bad"><span aria-hidden="true">✕</span> ${percent(failed)}<span class="visually-hidden"> failed</span></span>`}</span>`;

// The node of an address.
export function addressNode(tier, owner, parent, address, depth) {
  const trail = addressKey(tier, owner, parent, address);
  const found = foundOf(address);
  return {
    key: trail, trail, depth, address, name: address.address, search: `${owner}/${parent} ${address.address}`.toLowerCase(),
    level: levelOf(address), word: found, state: found, since: address.since, evidence: address.evidence,
    title: `${owner}/${parent} ${address.address}`,
  };
}

// The level of an endpoint or backend, its override included.
export function ownerLevel(owner) {
  const level = levelOf(owner);
  return owner.override && isFine(level) ? "watch" : level;
}

export const ownerEvidence = (owner) => owner.lookup?.error ?? evidence([owner]);
