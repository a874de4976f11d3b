// The proxy: its listeners, its pools, and their backends with what they work on.

import { html, useMemo } from "../lib.js";
import { evidence, foundOf, isFine } from "../health.js";
import { useStore } from "../store.js";
import { addressKey } from "../trails.js";
import { clock, count } from "../words.js";
import { Tree, addressNode, ownerLevel } from "./tree.js";

export function Proxy({ onAct, onDetail }) {
  const certificates = useStore((state) => state.status?.certificates);
  const pools = useStore((state) => state.status?.pools);
  const listeners = useStore((state) => state.status?.listeners);
  const at = useStore((state) => state.at);
  const roots = useMemo(() => (pools ?? []).map((pool) => poolNode(pool, at)), [pools]);
  return html`
    ${listeners?.length > 0 && html`<ul class="listeners" aria-label="Listeners">
      ${listeners.map(({ name, protocol, addresses, tls }) => html`<li key=${name}>
        <strong>${name}</strong> ${protocol}${tls ? " over TLS" : ""} at ${addresses.join(", ")}</li>`)}
    </ul>`}
    ${certificates?.length > 0 && html`<ul class="listeners" aria-label="Certificates">
      ${certificates.map(({ file, names, expires, error }) => html`<li key=${file}><strong>${names.join(", ")}</strong>
        ${" "}${expires ? `until ${clock(expires, at)}` : "no certificate yet"}${error ? html`; <span class="bad">${error}</span>` : ""}</li>`)}
    </ul>`}
    <${Tree} roots=${roots} label="pools" at=${at} onAct=${onAct} onDetail=${onDetail} empty="This node has no pools." />`;
}

function poolNode(pool, at) {
  const { name, balance, serves, panic, waiting, backends, limits } = pool;
  const states = [
    serves ? balance : `${balance}, no backend serves`,
    panic && `panic: ${panic.healthy} of ${panic.of} are healthy`,
    waiting > 0 && `${count(waiting, "request")} waiting`,
  ];
  const used = backends.filter((backend) => backend.used).length;
  return {
    key: `pool/${name}`, depth: 0, name, search: name.toLowerCase(),
    level: !serves ? "bad" : panic || used < backends.filter((it) => !it.backup).length ? "watch" : "well",
    word: serves ? "serves" : "does not serve", state: states.filter(Boolean).join(", "), evidence: evidence(backends),
    note: `${used} of ${backends.length} used`,
    children: () => backends.map((backend) => backendNode(name, backend, limits, at)),
  };
}

function backendNode(pool, backend, limits, at) {
  const { name, verdict, backup, used, ejected, override, addresses, weight } = backend;
  const target = `pool/${pool}/${name}`;
  const loads = addresses.flatMap(({ load }) => load ?? []);
  const requests = loads.reduce((sum, load) => sum + load.requests, 0);
  const most = limits?.requests ? `/${limits.requests * addresses.length}` : "";
  const [out] = ejected;
  const state = [foundOf(backend), backup && "backup", out && `ejected until ${clock(out.until, at)}`];
  const level = out && verdict === "up" ? "watch" : ownerLevel(backend);
  const why = [out?.evidence ?? evidence([backend]), `${requests}${most} in flight`];
  // Where all is well, the load comes first, for there is not room for everything.
  if (isFine(level)) why.reverse();
  const common = {
    name, search: `${pool}/${name}`.toLowerCase(), word: foundOf(backend), state: state.filter(Boolean).join(", "), override, target,
    level, evidence: why.join("; "),
  };
  if (addresses.length === 1) return { ...addressNode("pool", pool, name, addresses[0], 1), ...common };
  const note = `weight ${weight}${used ? "" : ", not used"}`;
  const trails = addresses.map((address) => addressKey("pool", pool, name, address));
  const children = () => addresses.map((address) => addressNode("pool", pool, name, address, 2));
  return { ...common, key: target, depth: 1, note, trails, children };
}

