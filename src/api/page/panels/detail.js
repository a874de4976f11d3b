// An address in detail: its probes, and a chart of how long they took to connect since the page was opened.

import { html, useEffect, useRef, useSize } from "../lib.js";
import { LEVELS, levelOf } from "../health.js";
import { useStore } from "../store.js";
import { trails } from "../trails.js";
import { clock, milliseconds, since } from "../words.js";
import { Dialog } from "./dialog.js";
import { Sign } from "./rows.js";

const HEIGHT = 180;

export function Detail({ node, onClose }) {
  const at = useStore((state) => state.at);
  const status = useStore((state) => state.status);
  const address = find(status, node.trail) ?? node.address;
  const { verdict, evidence, rtt_ms: rtt, last_probe_s: last, probes, load } = address;
  return html`<${Dialog} title=${node.title} onClose=${onClose} wide>
    <p class="headline"><${Sign} level=${levelOf(verdict)} word=${verdict} sign=${LEVELS[levelOf(verdict)].sign} />
      <strong>${verdict}</strong> for ${since(address.since, at)}, since ${clock(address.since, at)}</p>
    <p>${evidence}</p>
    <dl class="facts">
      <div><dt>Connect</dt><dd>${milliseconds(rtt)}</dd></div>
      <div><dt>Last probe</dt><dd>${last === null ? "none yet" : `${Math.round(last)} s ago`}</dd></div>
      ${load && html`<div><dt>In flight</dt><dd>${load.requests}</dd></div><div><dt>Connections</dt><dd>${load.connections}</dd></div>`}
    </dl>
    <${History} trail=${node.trail} at=${at} />
    ${probes.length > 0 && html`<table class="probes"><thead><tr><th scope="col">Probe</th><th scope="col">Verdict</th><th scope="col">Evidence</th></tr></thead>
      <tbody>${probes.map((probe) => html`<tr><th scope="row">${probe.name}</th><td>${probe.verdict}</td><td>${probe.evidence}</td></tr>`)}</tbody></table>`}
  <//>`;
}

function find({ regions, pools }, trail) {
  const [tier, owner, name] = trail.split("/");
  const owners = tier === "region" ? regions.find((it) => it.name === owner)?.endpoints : pools.find((it) => it.name === owner)?.backends;
  const addresses = owners?.find((it) => it.name === name)?.addresses ?? [];
  return addresses.find(({ address }) => trail.endsWith(`/${address}`));
}

function History({ trail, at }) {
  const frame = useRef(null);
  const chart = useRef(null);
  const { width } = useSize(frame);
  useEffect(() => {
    let isGone = false;
    import("../vendor/uplot.js").then(({ default: UPlot }) => {
      if (isGone || width === 0) return;
      chart.current = new UPlot(options(width, getComputedStyle(frame.current)), data(trail), frame.current);
    });
    return () => {
      isGone = true;
      chart.current?.destroy();
      chart.current = null;
    };
  }, [width]);
  useEffect(() => chart.current?.setData(data(trail)), [at]);
  return html`<div class="history" ref=${frame} role="img" aria-label="Time to connect since the page was opened"></div>`;
}

function data(trail) {
  const { times, rtt, failures } = trails.of(trail);
  const known = rtt.map((value) => (Number.isNaN(value) ? null : value));
  return [times, known, failures.map((count) => (count > 0 ? count : null))];
}

function options(width, style) {
  const colour = (name) => style.getPropertyValue(name).trim();
  const [ink, line, bad, accent] = ["--plot-ink", "--plot-line", "--plot-bad", "--plot-accent"].map(colour);
  const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
  return {
    width, height: HEIGHT,
    scales: { ms: { range: (_, least, most) => [0, (most ?? 1) * 1.15] }, failures: { range: (_, least, most) => [0, Math.max(most ?? 0, 10)] } },
    axes: [{ ...axis, values: (_, ticks) => ticks.map((tick) => clock(tick * 1000, tick * 1000)), space: 80 }, { ...axis, scale: "ms", values: (_, ticks) => ticks.map((tick) => `${tick} ms`), size: 64 }],
    series: [
      { label: "time", value: (_, time) => (time ? clock(time * 1000, time * 1000) : "–") },
      { label: "connect, ms", scale: "ms", stroke: accent, width: 1.5, points: { show: false }, value: (_, it) => it?.toFixed(2) ?? "–" },
      { label: "failures in a row", scale: "failures", stroke: bad, width: 0, points: { show: true, size: 6, fill: bad }, value: (_, it) => it ?? "–" },
    ],
  };
}
